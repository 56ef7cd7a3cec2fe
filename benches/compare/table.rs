//! What came out: rows with their goals, and what they were computed from, as text or as Markdown.

use crate::rounds::Sample;
use std::fmt::Write;
use std::time::Duration;

/// All that was measured.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) rows: Vec<Row>,
    pub(crate) measured: Vec<Measured>,
    /// How long requests took at a constant rate, sorted, of all rounds together.
    pub(crate) latencies: Vec<(String, Vec<Duration>)>,
    /// Entries, and octets in memory.
    pub(crate) memory: Vec<(String, Vec<(f64, f64)>)>,
    /// What else is to be said.
    pub(crate) notes: Vec<String>,
}

/// A line of the table.
pub(crate) struct Row {
    work: String,
    goal: Goal,
    unit: Unit,
    /// One for each round; their median counts.
    figures: Vec<f64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
    /// It is told, no more.
    None,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Times,
    Share,
    Percent,
    Milliseconds,
    Megabytes,
}

/// What the rounds of one contender have shown.
pub(crate) struct Measured {
    pub(crate) work: String,
    pub(crate) who: String,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn new(work: &str, goal: Goal, unit: Unit, figures: Vec<f64>) -> Row {
        Row { work: work.to_owned(), goal, unit, figures }
    }

    /// Whether the goal is met; nothing where there is none, or nothing was measured.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let figure = median(&self.figures)?;
        match self.goal {
            Goal::AtMost(most) => Some(figure <= most),
            Goal::Below(bound) => Some(figure < bound),
            Goal::AtLeast(least) => Some(figure >= least),
            Goal::None => None,
        }
    }

    /// All of it in a line.
    pub(crate) fn line(&self) -> String {
        self.cells().into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("; ")
    }

    fn cells(&self) -> Vec<String> {
        let goal = match self.goal {
            Goal::AtMost(most) => format!("at most {}", self.unit.text(most)),
            Goal::Below(bound) => format!("below {}", self.unit.text(bound)),
            Goal::AtLeast(least) => format!("at least {}", self.unit.text(least)),
            Goal::None => String::new(),
        };
        let (figure, spread) = match (median(&self.figures), self.figures.len()) {
            (None, _) => ("not measured".to_owned(), String::new()),
            (Some(figure), 1) => (self.unit.text(figure), String::new()),
            (Some(figure), _) => (self.unit.text(figure), spread(&self.figures, |figure| self.unit.text(figure))),
        };
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        };
        vec![self.work.clone(), goal, figure, spread, met.to_owned()]
    }
}

impl Unit {
    fn text(self, value: f64) -> String {
        match self {
            Unit::Times if value >= 20.0 => format!("{value:.0} x"),
            Unit::Times => format!("{value:.2} x"),
            Unit::Share => format!("{value:.3}"),
            Unit::Percent => format!("{:.1} %", 100.0 * value),
            Unit::Milliseconds => format!("{value:.2} ms"),
            Unit::Megabytes => format!("{value:.1} MB"),
        }
    }
}

impl Results {
    /// Both tables, and the notes.
    pub(crate) fn text(&self, is_markdown: bool) -> String {
        let rows: Vec<Vec<String>> = self.rows.iter().map(Row::cells).collect();
        let mut text = render(&["work", "goal", "figure", "least … most", ""], &rows, is_markdown);
        let measured: Vec<Vec<String>> = self.measured.iter().map(Measured::cells).collect();
        if !measured.is_empty() {
            let names = ["work", "who", "requests/s", "CPU µs a request", "least … most", "of Redis", "p50 ms", "p99 ms", "busy"];
            let _ = write!(text, "\n{}", render(&names, &measured, is_markdown));
        }
        let latencies: Vec<Vec<String>> = self.latencies.iter().map(|(who, sorted)| latencies(who, sorted)).collect();
        if !latencies.is_empty() {
            let names = ["at 20,000/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "slowest ms"];
            let _ = write!(text, "\n{}", render(&names, &latencies, is_markdown));
        }
        for note in &self.notes {
            let _ = write!(text, "\n{}{note}", if is_markdown { "- " } else { "" });
        }
        text
    }
}

impl Measured {
    pub(crate) fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(&self.samples.iter().map(of).collect::<Vec<f64>>()).unwrap_or_default()
    }

    fn cells(&self) -> Vec<String> {
        let all: Vec<f64> = self.samples.iter().map(|sample| sample.cpu).collect();
        let redis = self.median(|sample| sample.redis_cpu);
        vec![
            self.work.clone(),
            self.who.clone(),
            format!("{:.0}", self.median(|sample| sample.rate)),
            format!("{:.2}", self.median(|sample| sample.cpu)),
            spread(&all, |cpu| format!("{cpu:.2}")),
            if redis > 0.0 { format!("{redis:.2}") } else { String::new() },
            format!("{:.2}", self.median(|sample| sample.p50) / 1e3),
            format!("{:.2}", self.median(|sample| sample.p99) / 1e3),
            format!("{:.0} %", 100.0 * self.median(|sample| sample.busy)),
        ]
    }
}

fn latencies(who: &str, sorted: &[Duration]) -> Vec<String> {
    let at = |share: f64| format!("{:.3}", crate::steady::percentile(sorted, share).as_secs_f64() * 1e3);
    vec![who.to_owned(), at(0.5), at(0.9), at(0.99), at(0.999), at(1.0)]
}

pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let (below, above) = (sorted.get(sorted.len().saturating_sub(1) / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*below, *above))
}

fn spread(figures: &[f64], text: impl Fn(f64) -> String) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} … {}", text(least), text(most))
}

/// Columns: the first two to the left, the others to the right.
fn render(names: &[&str], rows: &[Vec<String>], is_markdown: bool) -> String {
    let mut text = String::new();
    if is_markdown {
        let _ = writeln!(text, "| {} |\n|{}", names.join(" | "), "---|".repeat(names.len()));
        rows.iter().for_each(|row| {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        });
        return text;
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([names[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&names).chain(rows) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 | 1 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
