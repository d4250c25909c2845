//! Templates in Jinja: found, compiled and rendered.

use std::path::Path;

use minijinja::value::{Rest, Serde};
use minijinja::{Environment, Error as JinjaError, ErrorKind, Value};
use minijinja_contrib::globals::{cycler, joiner};
use serde::Serialize;
use serde_json::Value as Json;

use super::conversation::{alias_reasoning, cut_at_tag, tag_content};
use super::error::{message, template_error};
use super::message::ChatOptions;
use super::{functions, python};
use crate::error::{Error, Result, ensure};
use crate::hf::fields::text_of;

/// A chat template in Jinja, rendered as transformers' `apply_chat_template` does: the same block
/// trimming, the methods of Python's strings and dictionaries, `tojson` without HTML escapes,
/// `raise_exception`, `strftime_now`, `namespace`, and loop controls. The tags
/// `{% generation %}` of training templates mark text and print nothing.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and the like, which templates may use.
    special_tokens: Vec<(String, String)>,
}

const NAME: &str = "chat_template";
const DEFAULT: &str = "default";

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables that it may use, such as `bos_token`.
    ///
    /// # Errors
    /// [`Error::Template`] with the line that does not parse.
    pub fn new(
        source: impl Into<String>,
        special_tokens: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let source = source.into();
        let mut environment = Environment::new();
        let syntax = minijinja::syntax::SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(template_error)?;
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(python::method);
        environment.set_formatter(functions::print);
        environment.add_filter("tojson", functions::to_json);
        environment.add_function("raise_exception", functions::raise_exception);
        environment.add_function("strftime_now", functions::strftime_now);
        environment.add_function("cycler", |items: Rest<Value>| cycler(items.0));
        environment.add_function("joiner", joiner);
        environment
            .add_template_owned(NAME, functions::plain_blocks(&source))
            .map_err(template_error)?;
        Ok(Self {
            source,
            environment,
            special_tokens: special_tokens.into_iter().collect(),
        })
    }

    /// The template of a checkpoint folder: `chat_template.jinja`, and by their names those of the folder
    /// `additional_chat_templates`; without such files the field `chat_template` of its
    /// `tokenizer_config.json`. Of several the one named `default`; `None` if there is none at all.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read, [`Error::Template`] for one that does not
    /// parse, or for several of which none is the default.
    pub fn from_dir(dir: &Path, tokenizer_config: &Json) -> Result<Option<Self>> {
        let mut named = in_files(dir)?;
        if named.is_empty() {
            let text = |value: &Json| Some(value.as_str()?.to_owned());
            match tokenizer_config.get("chat_template") {
                Some(Json::String(source)) => named.push((DEFAULT.into(), source.clone())),
                Some(Json::Array(list)) => {
                    named.extend(
                        list.iter()
                            .filter_map(|t| Some((text(&t["name"])?, text(&t["template"])?))),
                    );
                }
                _ => return Ok(None),
            }
        }
        let Some((_, source)) = named.iter().find(|(name, _)| name == DEFAULT) else {
            let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Error::Template(format!(
                "the folder has templates named {}, and none named default; put the one to be used into \
                 chat_template.jinja",
                names.join(", ")
            )));
        };
        let tokens = tokenizer_config.as_object().into_iter().flatten();
        let special_tokens = tokens
            .filter(|(name, _)| name.ends_with("_token"))
            .filter_map(|(name, token)| Some((name.clone(), text_of(token)?.to_owned())));
        Self::new(source, special_tokens).map(Some)
    }

    /// An error with the line of the template where it arose, which names what is undefined.
    fn located(&self, error: JinjaError) -> Error {
        let line = error
            .line()
            .filter(|_| error.kind() == ErrorKind::UndefinedError);
        match line.and_then(|n| self.source.lines().nth(n.saturating_sub(1))) {
            None => template_error(error),
            Some(line) => {
                let line: String = line.trim().chars().take(100).collect();
                Error::Template(format!("{} in `{line}`", message(&error)))
            }
        }
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// A conversation as text. The text spells the special tokens; encode it without adding any.
    ///
    /// # Errors
    /// [`Error::Template`] with what the template raised, if the conversation does not fit it;
    /// [`Error::Invalid`] if the last message is to be continued but is not in the text.
    pub fn render<M: Serialize>(&self, messages: &[M], options: &ChatOptions) -> Result<String> {
        let both = options.continue_final_message && options.add_generation_prompt;
        let why = "excludes add_generation_prompt: an answer is either begun or gone on with";
        ensure(!both, "continue_final_message", || why)?;
        let mut conversation = (Value::from(Serde(messages)).try_iter())
            .map_err(template_error)?
            .map(|m| alias_reasoning(&m))
            .collect::<Result<Vec<_>>>()?;
        let final_text = match (options.continue_final_message, conversation.last_mut()) {
            (false, _) => None,
            (true, Some(message)) => Some(tag_content(message)?),
            (true, None) => {
                return Err(Error::invalid("messages", "there is none to continue"));
            }
        };
        let mut variables: Vec<(&str, Value)> = vec![
            ("messages", Value::from(conversation)),
            ("tools", Value::from(Serde(&options.tools))),
            ("documents", Value::from(())),
            (
                "add_generation_prompt",
                Value::from(options.add_generation_prompt),
            ),
        ];
        let tokens = self.special_tokens.iter();
        variables.extend(tokens.map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
        let more = options.variables.iter();
        variables.extend(more.map(|(name, value)| (name.as_str(), Value::from(Serde(value)))));
        let text = (self.environment.get_template(NAME))
            .and_then(|t| t.render(Value::from_pairs(variables)))
            .map_err(|error| self.located(error))?;
        match final_text {
            None => Ok(text),
            Some(final_text) => cut_at_tag(text, &final_text),
        }
    }
}

/// Templates in files of their own, by their names.
fn in_files(dir: &Path) -> Result<Vec<(String, String)>> {
    let mut named = Vec::new();
    let mut add = |name: &str, path: &Path| {
        let source = std::fs::read_to_string(path).map_err(Error::io(path))?;
        named.push((name.to_owned(), source));
        Ok::<_, Error>(())
    };
    let path = dir.join("chat_template.jinja");
    if path.exists() {
        add(DEFAULT, &path)?;
    }
    let more = dir.join("additional_chat_templates");
    if more.is_dir() {
        for entry in std::fs::read_dir(&more).map_err(Error::io(&more))? {
            let path = entry.map_err(Error::io(&more))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "jinja")
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            {
                add(name, &path)?;
            }
        }
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(named)
}
