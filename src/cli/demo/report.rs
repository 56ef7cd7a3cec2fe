//! The demo's result: a table, and whether the cache does what it is for.

use super::origin::Endpoint;
use super::workload::{Measured, Sample, Source};
use std::time::Duration;

/// All that was measured.
pub(super) struct Report {
    /// Straight to the origin.
    pub(super) without: Measured,
    /// Through the sidecar.
    pub(super) with: Measured,
    /// Requests that reached the origin from the sidecar, in the order of [`Endpoint::ALL`].
    pub(super) forwarded: [u64; 2],
    /// Whether Redis had a part in it.
    pub(super) has_redis: bool,
}

/// A line of the table: one cell for each endpoint, below a heading.
enum Line {
    Heading(&'static str),
    Cells(&'static str, [String; 2]),
}

/// Latencies, sorted.
struct Latencies(Vec<Duration>);

impl Report {
    /// The table.
    pub(super) fn table(&self) -> String {
        let without = Endpoint::ALL.map(|endpoint| Latencies::of(&self.without, |sample| sample.endpoint == endpoint));
        let with = Endpoint::ALL.map(|endpoint| Latencies::of(&self.with, |sample| sample.endpoint == endpoint));
        let from = |source: Source| {
            Endpoint::ALL
                .map(|endpoint| Latencies::of(&self.with, |sample| sample.endpoint == endpoint && sample.source == source))
        };
        let (hits, redis) = (self.hits(), from(Source::Redis));
        let count = |of: &[Latencies; 2]| [0, 1].map(|at| thousands(of[at].0.len() as u64));
        let p = |percent: u64, of: &[Latencies; 2]| [0, 1].map(|at| span(of[at].percentile(percent)));
        let times = |before: [Option<Duration>; 2], after: [Option<Duration>; 2]| {
            [0, 1].map(|at| factor(before[at], after[at]).map_or(NOTHING.to_owned(), times))
        };
        let median = |of: &[Latencies; 2]| [0, 1].map(|at| of[at].percentile(50));
        let mean = |of: &[Latencies; 2]| [0, 1].map(|at| of[at].mean());
        let saved = [0, 1].map(|at| share_saved(self.forwarded[at], with[at].0.len() as u64));

        let mut lines = vec![
            Line::Heading("without the cache"),
            Line::Cells("requests", count(&without)),
            Line::Cells("p50", p(50, &without)),
            Line::Cells("p99", p(99, &without)),
            Line::Heading("with the cache, from its cold start on"),
            Line::Cells("requests", count(&with)),
            Line::Cells("p50", p(50, &with)),
            Line::Cells("p99", p(99, &with)),
            Line::Cells("p50 of hits", p(50, &hits)),
            Line::Cells("p99 of hits", p(99, &hits)),
        ];
        if self.has_redis {
            lines.push(Line::Cells("p50 of hits in Redis", p(50, &redis)));
            lines.push(Line::Cells("p99 of hits in Redis", p(99, &redis)));
        }
        lines.extend([
            Line::Heading("times faster"),
            Line::Cells("a hit (p50)", times(median(&without), median(&hits))),
            Line::Cells("all requests (mean)", times(mean(&without), mean(&with))),
            Line::Heading("answered from"),
            Line::Cells("memory", count(&from(Source::Memory))),
        ]);
        if self.has_redis {
            lines.push(Line::Cells("Redis", count(&redis)));
        }
        lines.extend([
            Line::Cells("another's fetch (collapsed)", count(&from(Source::Collapsed))),
            Line::Cells("the origin", count(&from(Source::Origin))),
            Line::Heading("the origin"),
            Line::Cells("requests it got", self.forwarded.map(thousands)),
            Line::Cells("requests it was spared", saved),
        ]);
        render(&lines)
    }

    /// What the cache is for, and whether it did it.
    pub(super) fn verdict(&self) -> String {
        let (hits, each) = (self.hits(), |of: [String; 2]| of.join(" and "));
        let without = Endpoint::ALL.map(|endpoint| Latencies::of(&self.without, |sample| sample.endpoint == endpoint));
        let factors = [0, 1].map(|at| factor(without[at].percentile(50), hits[at].percentile(50)));
        let slowest = [0, 1].map(|at| hits[at].percentile(99));
        let is_fast = factors.iter().all(|factor| factor.is_some_and(|factor| factor >= FACTOR_WANTED));
        let is_steady = slowest.iter().all(|p99| p99.is_some_and(|p99| p99 < P99_WANTED));
        let [sent, right] = [&self.without, &self.with]
            .iter()
            .fold([0; 2], |[sent, right], part| [sent + part.requests(), right + part.samples.len() as u64]);
        let mut text = String::new();
        let mut say = |holds: bool, what: String| text.push_str(&format!("  {} {what}\n", if holds { "✓" } else { "✗ missed:" }));
        say(
            is_fast,
            format!(
                "a hit is at least {FACTOR_WANTED} times faster at p50: {}",
                each(factors.map(|factor| factor.map_or(NOTHING.to_owned(), times)))
            ),
        );
        say(is_steady, format!("p99 of a hit is under {} ms: {}", P99_WANTED.as_millis(), each(slowest.map(span))));
        say(
            self.is_right(),
            format!(
                "{} of {} responses are what the origin has for their path, octet for octet",
                thousands(right),
                thousands(sent)
            ),
        );
        for (part, name) in [(&self.without, "without the cache"), (&self.with, "with the cache")] {
            if let Some(trouble) = &part.trouble {
                let (wrong, failed) = (thousands(part.wrong), thousands(part.failed));
                text.push_str(&format!("    {name}, {wrong} were wrong and {failed} failed, such as {trouble}\n"));
            }
        }
        text
    }

    /// Whether every request got the response it should.
    pub(super) fn is_right(&self) -> bool {
        [&self.without, &self.with].iter().all(|part| part.wrong == 0 && part.failed == 0)
    }

    fn hits(&self) -> [Latencies; 2] {
        Endpoint::ALL.map(|endpoint| Latencies::of(&self.with, |sample| sample.endpoint == endpoint && sample.source.is_hit()))
    }
}

impl Latencies {
    fn of(measured: &Measured, which: impl Fn(&Sample) -> bool) -> Latencies {
        let mut latencies: Vec<Duration> =
            measured.samples.iter().filter(|sample| which(sample)).map(|sample| sample.latency).collect();
        latencies.sort_unstable();
        Latencies(latencies)
    }

    /// The least latency that so many percent do not exceed (the nearest rank, so it is one that was measured).
    fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = (self.0.len() as u64 * percent).div_ceil(100).max(1);
        self.0.get(rank as usize - 1).copied()
    }

    fn mean(&self) -> Option<Duration> {
        let count = u32::try_from(self.0.len()).ok().filter(|count| *count > 0)?;
        Some(self.0.iter().sum::<Duration>() / count)
    }
}

/// Sets the lines below each other, the cells flush right.
fn render(lines: &[Line]) -> String {
    let names = Endpoint::ALL.map(Endpoint::name);
    let (mut first, mut widths) = (0, names.map(str::len));
    for line in lines {
        match line {
            Line::Heading(text) => first = first.max(text.chars().count()),
            Line::Cells(label, cells) => {
                first = first.max(label.chars().count() + INDENT);
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.chars().count());
                }
            }
        }
    }
    let [left, right] = widths;
    let rule = "─".repeat(first + left + right + 2 * GAP);
    let (gap, indent) = (" ".repeat(GAP), " ".repeat(INDENT));
    let mut text = format!("  {:first$}{gap}{:>left$}{gap}{:>right$}\n  {rule}\n", "", names[0], names[1]);
    for line in lines {
        match line {
            Line::Heading(heading) => text.push_str(&format!("  {heading}\n")),
            Line::Cells(label, [a, b]) => {
                let width = first - INDENT;
                text.push_str(&format!("  {indent}{label:width$}{gap}{a:>left$}{gap}{b:>right$}\n"));
            }
        }
    }
    text.push_str(&format!("  {rule}\n"));
    text
}

fn factor(before: Option<Duration>, after: Option<Duration>) -> Option<f64> {
    let (before, after) = (before?, after?);
    Some(before.as_secs_f64() / after.as_secs_f64().max(f64::EPSILON))
}

fn times(factor: f64) -> String {
    match factor < 10.0 {
        true => format!("{factor:.1}×"),
        false => format!("{}×", thousands(factor as u64)),
    }
}

fn share_saved(forwarded: u64, requests: u64) -> String {
    match requests {
        0 => NOTHING.to_owned(),
        _ => format!("{:.1} %", 100.0 * (1.0 - forwarded as f64 / requests as f64)),
    }
}

/// Milliseconds, with three digits that matter.
fn span(duration: Option<Duration>) -> String {
    let Some(duration) = duration else {
        return NOTHING.to_owned();
    };
    match duration.as_secs_f64() * 1000.0 {
        short if short < 10.0 => format!("{short:.2} ms"),
        medium if medium < 100.0 => format!("{medium:.1} ms"),
        long => format!("{long:.0} ms"),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Where nothing was measured.
const NOTHING: &str = "–";

const INDENT: usize = 2;
const GAP: usize = 4;

/// What the cache is meant to reach: so many times faster at p50, and under so much at p99 of the hits.
const FACTOR_WANTED: f64 = 50.0;
const P99_WANTED: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests;
