//! The configuration as it was written: values that are not understood yet, each with its place.

use super::place::Place;
use super::problem::Report;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

/// What TOML has, and one kind more.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// From outside of the file, where nothing tells a string from a number: the key says what it is read as.
    Text(String),
    String(String),
    Integer(i64),
    Float,
    Boolean(bool),
    Datetime,
    Array(Vec<Value>),
    Table(Table),
}

/// Keys and their values.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) place: Place,
    pub(super) entries: BTreeMap<String, Entry>,
}

/// A value, and where its key stands.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Place,
    pub(super) value: Value,
}

/// Reads the report's file. After an error of syntax it goes on behind it, as far as that is possible.
pub(super) fn parse(report: &mut Report) -> Table {
    let text = report.file.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in errors {
        let place = Place::file(error.span().unwrap_or(text.len()..text.len()));
        report.problem(&place, "", format!("this is not TOML: {}", error.message()));
    }
    let span = document.span();
    table(document.into_inner(), &Place::file(span), &mut Place::file)
}

/// Reads a single TOML value from outside of the file.
pub(super) fn parse_value(written: &str, place: &Place) -> Result<Value, String> {
    let value = DeValue::parse(written).map_err(|error| error.message().to_owned())?;
    Ok(self::value(value, &mut |_| place.clone()))
}

fn table(read: DeTable<'_>, place: &Place, at: &mut dyn FnMut(std::ops::Range<usize>) -> Place) -> Table {
    let entry = |(key, written): (Spanned<_>, Spanned<_>)| {
        let place = at(key.span());
        let name: std::borrow::Cow<'_, str> = key.into_inner();
        (name.into_owned(), Entry { key: place, value: value(written, at) })
    };
    Table { place: place.clone(), entries: read.into_iter().map(entry).collect() }
}

fn array(read: DeArray<'_>, at: &mut dyn FnMut(std::ops::Range<usize>) -> Place) -> Vec<Value> {
    read.into_iter().map(|item| value(item, at)).collect()
}

fn value(read: Spanned<DeValue<'_>>, at: &mut dyn FnMut(std::ops::Range<usize>) -> Place) -> Value {
    let place = at(read.span());
    let kind = match read.into_inner() {
        DeValue::String(string) => Kind::String(string.into_owned()),
        DeValue::Integer(integer) => {
            // What does not fit becomes the largest there is: it is out of the range of every key.
            let furthest = if integer.as_str().starts_with('-') { i64::MIN } else { i64::MAX };
            Kind::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(furthest))
        }
        DeValue::Float(_) => Kind::Float,
        DeValue::Boolean(boolean) => Kind::Boolean(boolean),
        DeValue::Datetime(_) => Kind::Datetime,
        DeValue::Array(items) => Kind::Array(array(items, at)),
        DeValue::Table(entries) => Kind::Table(table(entries, &place, at)),
    };
    Value { kind, place }
}

impl Table {
    pub(super) fn new(place: Place) -> Table {
        Table { place, entries: BTreeMap::new() }
    }
}

impl Value {
    /// The string, wherever it comes from.
    pub(super) fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(string) | Kind::String(string) => Some(string),
            _ => None,
        }
    }

    /// What it is, in words.
    pub(super) fn describe(&self) -> &'static str {
        match self.kind {
            Kind::Text(_) | Kind::String(_) => "a string",
            Kind::Integer(_) => "an integer",
            Kind::Float => "a number with a fraction",
            Kind::Boolean(_) => "a boolean",
            Kind::Datetime => "a date",
            Kind::Array(_) => "a list",
            Kind::Table(_) => "a table",
        }
    }
}
