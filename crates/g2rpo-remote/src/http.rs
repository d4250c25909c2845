//! One HTTP call with a time limit: JSON out, text in, and what went wrong by kind.

use std::time::Duration;
use std::{fmt, io};

use serde_json::Value;
use ureq::http::HeaderMap;
use ureq::{Agent, RequestBuilder};

use crate::error::Fault;

/// Largest answer that is read. A completion of 100 000 ids with candidates is about 30 MB.
const MAX_ANSWER: u64 = 256 << 20;

/// A pool of connections. Shutting it down ends every call on it, and a server drops the requests
/// of connections that end.
pub(crate) fn agent(connections: usize) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        // The servers are named by address; a proxy of the environment would swallow localhost.
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(Some(Duration::from_secs(10)))
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        // The servers' uvicorn closes a connection that is idle for 5 s.
        .max_idle_age(Duration::from_secs(4))
        .build()
        .new_agent()
}

/// Where a server is, and what it wants to see.
pub(crate) struct Endpoint {
    base: String,
    authorization: Option<String>,
}

impl fmt::Debug for Endpoint {
    // The other field is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

impl Endpoint {
    pub(crate) fn new(url: &str, api_key: Option<&str>) -> Self {
        Self {
            base: url.trim_end_matches('/').into(),
            authorization: api_key.map(|key| format!("Bearer {key}")),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    pub(crate) fn get(&self, agent: &Agent, path: &str, limit: Duration) -> Result<String, Fault> {
        let request = agent.get(format!("{}{path}", self.base));
        finish(self.ready(request, limit).call(), limit)
    }

    pub(crate) fn post(
        &self,
        agent: &Agent,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<String, Fault> {
        let request = self.ready(agent.post(format!("{}{path}", self.base)), limit);
        let response = match body {
            Some(body) => (request.content_type("application/json")).send(&body.to_string()),
            None => request.send_empty(),
        };
        finish(response, limit)
    }

    fn ready<B>(&self, request: RequestBuilder<B>, limit: Duration) -> RequestBuilder<B> {
        let request = request.config().timeout_global(Some(limit)).build();
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }
}

fn finish(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    limit: Duration,
) -> Result<String, Fault> {
    let mut response = response.map_err(|e| fault(e, limit))?;
    let bytes = (response.body_mut().with_config().limit(MAX_ANSWER))
        .read_to_vec()
        .map_err(|e| fault(e, limit))?;
    let status = response.status();
    if status.is_success() {
        return String::from_utf8(bytes).map_err(|_| Fault::Body("it is not UTF-8".into()));
    }
    Err(Fault::Status {
        status: status.as_u16(),
        message: message(&String::from_utf8_lossy(&bytes)),
        retry_after: retry_after(response.headers()),
    })
}

fn fault(error: ureq::Error, limit: Duration) -> Fault {
    use ureq::Error as E;
    match error {
        E::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) | E::HostNotFound => {
            Fault::Connect(error.to_string())
        }
        E::Timeout(_) => Fault::Timeout(limit),
        E::Io(e) if e.kind() == io::ErrorKind::ConnectionRefused => Fault::Connect(e.to_string()),
        E::ConnectionFailed => Fault::Connect(error.to_string()),
        // A name that is not known has no kind of its own.
        E::Io(e) if e.to_string().contains("lookup address") => Fault::Connect(e.to_string()),
        E::Io(_) | E::Protocol(_) => Fault::Broken(error.to_string()),
        E::BodyExceedsLimit(_) => Fault::Body(error.to_string()),
        other => Fault::Impossible(other.to_string()),
    }
}

/// The server's own words: vLLM's `error.message`, FastAPI's `detail`, SGLang's `message` or
/// `error_message`.
fn message(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let places = ["/error/message", "/detail", "/message", "/error_message"];
    match places.iter().find_map(|place| json.pointer(place)) {
        Some(Value::String(words)) => excerpt(words),
        Some(words) => excerpt(&words.to_string()),
        None => excerpt(body),
    }
}

/// The first 300 characters, on one line.
pub(crate) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Seconds only: no server of these sends a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?;
    let seconds = text.trim().parse().ok().filter(|s| *s < 3600.0)?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_found() {
        for (body, words) in [
            (r#"{"error": {"message": "bad", "code": 400}}"#, "bad"),
            (r#"{"detail": "Not Found"}"#, "Not Found"),
            (r#"{"object": "error", "message": "no"}"#, "no"),
            ("<h1>\n 502 </h1>", "<h1> 502 </h1>"),
        ] {
            assert_eq!(message(body), words);
        }
        assert_eq!(message(&"é".repeat(400)).chars().count(), 301);
    }
}
