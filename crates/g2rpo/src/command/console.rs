//! What people see while a command works: a bar on a terminal, plain lines elsewhere.

use std::fmt::Display;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use g2rpo::train::SampleRow;
use indicatif::{ProgressBar, ProgressStyle};

use super::lines::{Lines, To};

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Console {
    quiet: bool,
    silent: bool,
    bar: ProgressBar,
    started: Option<(Instant, u64)>,
    total: u64,
    /// Of a run, which waits for no reader.
    lines: Option<Lines>,
}

impl Console {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            silent: false,
            bar: ProgressBar::hidden(),
            started: None,
            total: 0,
            lines: None,
        }
    }

    /// A console that a run goes on without where nobody reads it.
    pub(crate) fn of_run(quiet: bool) -> Self {
        Self {
            lines: Some(Lines::start()),
            ..Self::new(quiet)
        }
    }

    /// One on which nothing is shown: another process tells the same.
    pub(crate) fn silent() -> Self {
        Self {
            silent: true,
            ..Self::new(true)
        }
    }

    fn write(&self, to: To, line: impl Display) {
        if self.silent {
            return;
        }
        self.bar.suspend(|| match &self.lines {
            Some(lines) => lines.write(to, line.to_string()),
            None => to.write(&line.to_string()),
        });
    }

    /// A line for people, left out by `--quiet`.
    pub(crate) fn say(&self, line: impl Display) {
        if !self.quiet {
            self.write(To::Output, line);
        }
    }

    /// A line that is not left out.
    pub(crate) fn warn(&self, line: impl Display) {
        self.write(To::Error, line);
    }

    /// Steps begin: `done` of `total` are behind.
    pub(crate) fn start(&mut self, done: u64, total: u64) {
        self.total = total;
        self.started = Some((Instant::now(), done));
        if !self.quiet && stderr().is_terminal() {
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left");
            self.bar = ProgressBar::new(total)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.bar.set_position(done);
        }
    }

    /// A step is done; `line` is shown if it is time for one.
    pub(crate) fn step(&self, done: u64, line: Option<String>) {
        self.bar.set_position(done);
        let Some(line) = line else { return };
        let left = self.left(done).filter(|_| self.bar.is_hidden());
        let left = left.map_or_else(String::new, |left| format!("  {} left", time(left)));
        self.say(format_args!("{line}{left}"));
    }

    /// How long the remaining steps will take, as far as the ones before tell.
    fn left(&self, done: u64) -> Option<Duration> {
        let (start, first) = self.started?;
        let steps = done.checked_sub(first).filter(|n| *n > 0)?;
        let left = self.total.saturating_sub(done) as f64;
        Some(start.elapsed().mul_f64(left / steps as f64))
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Completions as a table, guidance between ⟦ and ⟧.
    pub(crate) fn samples(&self, samples: &[&SampleRow]) {
        for sample in samples {
            let reward = (sample.reward).map_or("masked".to_owned(), |r| format!("{r:.2}"));
            let guidance = match sample.guidance.as_str() {
                "" => String::new(),
                text => format!("⟦{text}⟧"),
            };
            let text = short(&format!("{guidance}{}", sample.completion), 160);
            let (question, verdict) = (short(&sample.question, 60), &sample.verdict);
            self.say(format_args!(
                "  {reward:>6}  {question}  │  {text}  │  {verdict}"
            ));
        }
    }
}

/// A text on one line, its middle left out if it is long.
pub(crate) fn short(text: &str, width: usize) -> String {
    let line: Vec<char> = text.trim().replace('\n', "⏎").chars().collect();
    if line.len() <= width {
        return line.into_iter().collect();
    }
    let half = (width - 1) / 2;
    let (head, tail) = (&line[..half], &line[line.len() - half..]);
    head.iter().chain(['…'].iter()).chain(tail).collect()
}

/// A duration as a person says it.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A size in bytes as a person says it.
pub(crate) fn bytes(n: f64) -> String {
    if n < 1e9 {
        format!("{:.0} MiB", n / (1 << 20) as f64)
    } else {
        format!("{:.1} GiB", n / (1 << 30) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(short(" a\nb ", 10), "a⏎b");
        assert_eq!(short("abcdefghij", 5), "ab…ij");
    }

    #[test]
    fn durations_and_sizes_are_said_as_people_say_them() {
        let texts = [5, 600, 7200].map(|s| time(Duration::from_secs(s)));
        assert_eq!(texts, ["5 s", "10 min", "2.0 h"]);
        assert_eq!([bytes(3e6), bytes(3e10)], ["3 MiB", "27.9 GiB"]);
    }
}
