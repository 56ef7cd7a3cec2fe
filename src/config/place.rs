//! Where a value of the configuration was written.

use std::ops::Range;

/// Where something was written. The order is that in which problems are reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// From one octet of the file to another.
    File { start: usize, end: usize },
    /// In an environment variable.
    Environment(String),
    /// In a flag of the command line.
    Flag(String),
}

impl Place {
    pub(super) fn file(span: Range<usize>) -> Place {
        Place::File { start: span.start, end: span.end }
    }
}
