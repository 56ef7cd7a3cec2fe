//! Where the configuration comes from: a file, the environment, the command line; the later beats the earlier.

use super::overlay::{self, Change, GENERIC, What};
use super::place::Place;
use super::problem::Report;
use super::raw::Table;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The sources of a configuration.
#[derive(Clone, Default)]
pub struct Sources {
    text: Text,
    environment: Vec<Change>,
    /// Variables without a meaning of their own, which a key may name.
    others: BTreeMap<String, String>,
    flags: Vec<Change>,
}

#[derive(Clone, Default)]
enum Text {
    /// `proxy.toml` of the working directory, if there is one.
    #[default]
    Usual,
    /// A file that somebody named.
    Named(PathBuf),
    /// A text that is already here, and what to call it.
    Here(String, String),
}

impl Sources {
    /// `proxy.toml` of the working directory, if there is one, and nothing else.
    pub fn new() -> Sources {
        Sources::default()
    }

    /// Names the file, instead of the usual one.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Sources {
        self.text = Text::Named(path.into());
        self
    }

    /// Takes a text for the file.
    pub fn text(mut self, name: impl Into<String>, text: impl Into<String>) -> Sources {
        self.text = Text::Here(name.into(), text.into());
        self
    }

    /// Takes what the environment says. A name of its own (`REDIS_URL`) comes before the generic one (`SIDECACHE_REDIS_URL`).
    ///
    /// A variable with an empty value is one that is not set: that is how compose files leave one out.
    pub fn environment<K: Into<OsString>, V: Into<OsString>>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Sources {
        for (name, value) in variables {
            let Ok(name) = name.into().into_string() else {
                continue;
            };
            let value = value.into();
            // A secret that was read from a file often ends with a line break.
            let text = value.to_string_lossy().trim().to_owned();
            if text.is_empty() {
                continue;
            }
            if name == FILE {
                self.text = match self.text {
                    Text::Usual => Text::Named(value.into()),
                    named => named,
                };
            } else if let Some(what) = What::variable(&name, &text) {
                let what = if value.to_str().is_some() { what } else { What::Wrong("is not UTF-8".to_owned()) };
                self.environment.push(Change { place: Place::Environment(name), what });
            } else if value.to_str().is_some() {
                self.others.insert(name, text);
            }
        }
        let is_generic = |change: &Change| matches!(&change.place, Place::Environment(name) if name.starts_with(GENERIC));
        self.environment.sort_by_key(is_generic);
        self
    }

    /// Takes what a flag of the command line says: `flag` is what it is called there, `key` the dotted key it sets.
    pub fn flag(mut self, flag: &str, key: &str, text: impl Into<String>) -> Sources {
        let what = What::set(key, text.into());
        self.flags.push(Change { place: Place::Flag(flag.to_owned()), what });
        self
    }

    /// Takes an assignment `section.key=value`, the argument of `--set`.
    pub fn set(mut self, assignment: &str) -> Sources {
        match assignment.split_once('=') {
            Some((key, text)) => self.flag(&format!("--set {}", key.trim()), key.trim(), text.trim()),
            None => {
                let change = Change { place: Place::Flag("--set".to_owned()), what: What::no_assignment(assignment) };
                self.flags.push(change);
                self
            }
        }
    }

    /// Takes the usual file, where it is there now, for one that somebody named: from here on it is a problem when it is gone. What a
    /// sidecar has begun with must not become the defaults, with no token and no routes, because somebody moves a file.
    pub fn hold_on(&mut self) {
        if matches!(self.text, Text::Usual) && Path::new(USUAL).exists() {
            self.text = Text::Named(PathBuf::from(USUAL));
        }
    }

    /// The file that is read, whether it is there or not; `None` if there is a text instead.
    pub fn path(&self) -> Option<&Path> {
        match &self.text {
            Text::Here(..) => None,
            Text::Usual => Some(Path::new(USUAL)),
            Text::Named(path) => Some(path),
        }
    }

    /// The value of a variable that has no meaning of its own.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.others.get(name).map(String::as_str)
    }

    /// Reads the text of the file into the report.
    pub(super) fn read_file(&self, report: &mut Report) {
        let (path, is_usual) = match &self.text {
            Text::Here(name, text) => {
                report.file = Some((name.clone(), text.clone()));
                return;
            }
            Text::Usual => (Path::new(USUAL), true),
            Text::Named(path) => (path.as_path(), false),
        };
        let name = path.display().to_string();
        match read(path) {
            Ok(octets) => match String::from_utf8(octets) {
                Ok(text) => report.file = Some((name, text)),
                Err(error) => {
                    let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                    let line = before.split(|octet| *octet == b'\n').count();
                    report.file_problem(&name, format!("line {line} is not UTF-8"));
                }
            },
            Err(error) if is_usual && error.kind() == ErrorKind::NotFound => {}
            Err(error) => report.file_problem(&name, format!("cannot be read: {error}")),
        }
    }

    /// Puts what the environment and the command line say over what the file says.
    pub(super) fn overlay(&self, root: &mut Table, report: &mut Report) {
        overlay::apply(self.environment.iter().chain(&self.flags), root, report);
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut octets)?;
    match octets.len() as u64 > FILE_MAX {
        true => Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 4 MiB")),
        false => Ok(octets),
    }
}

/// The file that is read without being named.
const USUAL: &str = "proxy.toml";

/// The variable that names another one.
const FILE: &str = "SIDECACHE_CONFIG";

/// A thousand routes are a tenth of it; a device that never ends is not.
const FILE_MAX: u64 = 4 << 20;
