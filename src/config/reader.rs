//! Takes keys out of a table, one by one. What is wrong is noted, not returned, so that one pass finds all of it; what
//! nobody took is unknown.

use super::place::Place;
use super::problem::Report;
use super::raw::{Kind, Table, Value};
use super::suggest::nearest;

/// A table that is being read.
pub(super) struct Section<'r> {
    report: &'r mut Report,
    name: Name,
    table: Table,
    asked: Vec<&'static str>,
}

/// How a table and its keys are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    /// The file itself: its keys are sections.
    Root,
    /// `[redis]`.
    Section(&'static str),
    /// `[[route]]`, counted from zero, and the name that it has or will have.
    Route(usize, Option<String>),
    /// `[[admin.tokens]]`, counted from zero.
    Token(usize),
    /// `query = {…}` in a route.
    Query(usize, Option<String>),
}

/// What is wrong with a value, or with one that it holds.
pub(super) struct Fault {
    pub(super) place: Place,
    pub(super) message: String,
}

/// A value that was understood, or all that is wrong with it.
pub(super) type Parsed<T> = Result<T, Vec<Fault>>;

// === impl Name ===

impl Name {
    fn of_key(&self, key: &str) -> String {
        let in_route = |index: &usize, route: &Option<String>, key: &str| match route {
            Some(route) => format!("route[{index}].{key} ({route:?})"),
            None => format!("route[{index}].{key}"),
        };
        match self {
            Name::Root => format!("[{key}]"),
            Name::Section(section) => format!("[{section}] {key}"),
            Name::Token(index) => format!("admin.tokens[{index}].{key}"),
            Name::Route(index, route) => in_route(index, route, key),
            Name::Query(index, route) => in_route(index, route, &format!("query.{key}")),
        }
    }

    fn dotted(&self, key: &str) -> String {
        match self {
            Name::Root => key.to_owned(),
            Name::Section(section) => format!("{section}.{key}"),
            Name::Token(_) => format!("admin.tokens.{key}"),
            Name::Route(..) => format!("route.{key}"),
            Name::Query(..) => format!("route.query.{key}"),
        }
    }

    fn of_table(&self) -> String {
        match self {
            Name::Root => "the file".to_owned(),
            Name::Section(section) => format!("[{section}]"),
            Name::Token(_) => "[[admin.tokens]]".to_owned(),
            Name::Route(..) => "[[route]]".to_owned(),
            Name::Query(..) => "query".to_owned(),
        }
    }
}

// === impl Section ===

impl<'r> Section<'r> {
    pub(super) fn new(name: Name, table: Table, report: &'r mut Report) -> Section<'r> {
        Section { report, name, table, asked: Vec::new() }
    }

    /// Puts the value of a key, if it is there and right, in the place of a default.
    pub(super) fn read<T>(&mut self, key: &'static str, into: &mut T, parse: impl Fn(&Value) -> Parsed<T>) {
        if let Some(value) = self.take(key, parse) {
            *into = value;
        }
    }

    /// The value of a key, if it is there and right.
    pub(super) fn take<T>(&mut self, key: &'static str, parse: impl Fn(&Value) -> Parsed<T>) -> Option<T> {
        self.take_with_place(key, parse).map(|(value, _)| value)
    }

    /// The same, and where it stands.
    pub(super) fn take_with_place<T>(&mut self, key: &'static str, parse: impl Fn(&Value) -> Parsed<T>) -> Option<(T, Place)> {
        let value = self.take_raw(key)?;
        match parse(&value) {
            Ok(read) => Some((read, value.place)),
            Err(faults) => {
                for Fault { place, message } in faults {
                    self.report.problem(&place, self.name.of_key(key), message);
                }
                None
            }
        }
    }

    /// The value of a key as it was written.
    pub(super) fn take_raw(&mut self, key: &'static str) -> Option<Value> {
        self.asked.push(key);
        if self.name != Name::Root {
            let dotted = self.name.dotted(key);
            if !self.report.keys.contains(&dotted) {
                self.report.keys.push(dotted);
            }
        }
        self.table.entries.remove(key).map(|entry| entry.value)
    }

    /// Where a key stands that was not taken yet.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        self.table.entries.get(key).map(|entry| entry.value.place.clone())
    }

    /// Whether a key that was not taken yet is a table.
    pub(super) fn has_table(&self, key: &str) -> bool {
        self.table.entries.get(key).is_some_and(|entry| matches!(entry.value.kind, Kind::Table(_)))
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> &Place {
        &self.table.place
    }

    /// Reads a table within this one. One that was not written is read as an empty one.
    pub(super) fn within(&mut self, key: &'static str, name: Name, read: impl FnOnce(&mut Section<'_>)) {
        let mut table = Table::new(self.table.place.clone());
        self.asked.push(key);
        match self.table.entries.remove(key).map(|entry| entry.value) {
            None => {}
            Some(Value { kind: Kind::Table(written), .. }) => table = written,
            Some(other) => {
                let message = format!("is {}; it is a table of keys", other.describe());
                self.report.problem(&other.place, self.name.of_key(key), message);
            }
        }
        self.of_table(name, table, read);
    }

    /// Reads a table that was taken out of this one.
    pub(super) fn of_table(&mut self, name: Name, table: Table, read: impl FnOnce(&mut Section<'_>)) {
        let mut section = Section::new(name, table, self.report);
        read(&mut section);
        section.finish();
    }

    /// Notes a problem with a key of this table.
    pub(super) fn problem(&mut self, place: &Place, key: &str, message: impl Into<String>) {
        self.report.problem(place, self.name.of_key(key), message);
    }

    /// Notes that a key of this table needs something that is not there.
    pub(super) fn absence(&mut self, place: &Place, key: &str, message: impl Into<String>) {
        self.report.absence(place, self.name.of_key(key), message);
    }

    /// Notes a problem with a key of a table that was read within this one.
    pub(super) fn problem_of(&mut self, name: &Name, place: &Place, key: &str, message: impl Into<String>) {
        self.report.problem(place, name.of_key(key), message);
    }

    /// The same for a key of a table that was read within this one.
    pub(super) fn absence_of(&mut self, name: &Name, place: &Place, key: &str, message: impl Into<String>) {
        self.report.absence(place, name.of_key(key), message);
    }

    /// Gives a route the name under which its problems are reported.
    pub(super) fn rename(&mut self, name: Name) {
        self.name = name;
    }

    /// Notes what nobody took.
    pub(super) fn finish(self) {
        for (written, entry) in &self.table.entries {
            // Keys may be quoted, and then hold anything.
            let key = &written.escape_debug().to_string();
            let kind = if self.name == Name::Root { "section" } else { "key" };
            let meant = match nearest(key, self.asked.iter().copied()) {
                Some(near) => format!("did you mean {}?", self.meant(near, &entry.key)),
                None => format!("{} has {}", self.name.of_table(), self.asked.join(", ")),
            };
            let message = format!("there is no such {kind}; {meant}");
            match (&self.name, &entry.value.kind) {
                (Name::Section(_) | Name::Token(_) | Name::Route(..) | Name::Query(..), _) => {
                    self.report.problem(&entry.key, self.name.of_key(key), message);
                }
                // Outside of all sections, both may be what is left of a header that is no TOML.
                (Name::Root, Kind::Table(_) | Kind::Array(_)) => self.report.absence(&entry.key, self.name.of_key(key), message),
                (Name::Root, _) => {
                    let message = "stands in no section; keys stand below the name of one, such as [cache]";
                    self.report.absence(&entry.key, key.as_str(), message);
                }
            }
        }
    }

    fn meant(&self, near: &str, place: &Place) -> String {
        match (&self.name, place) {
            (Name::Section(section), Place::Environment(_)) => {
                format!("SIDECACHE_{section}_{near}").replace('.', "_").to_uppercase()
            }
            (Name::Root, Place::File { .. }) if near == "route" => "[[route]]".to_owned(),
            (Name::Root, Place::File { .. }) => format!("[{near}]"),
            _ => format!("`{near}`"),
        }
    }
}

// === impl Value ===

impl Value {
    /// One thing that is wrong with this value.
    pub(super) fn fault(&self, message: impl Into<String>) -> Vec<Fault> {
        vec![Fault { place: self.place.clone(), message: message.into() }]
    }

    /// It is of another type than the key has.
    pub(super) fn not(&self, expected: &str) -> Vec<Fault> {
        self.fault(format!("is {}; write {expected}", self.describe()))
    }
}
