//! The floors hold: a module uses modules on lower floors alone. ARCHITECTURE.md draws them; this test keeps it true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors, from the bottom.
const FLOORS: &[&[&str]] = &[
    &["semantics"],
    &["rules", "clock", "stats", "tasks"],
    &["store", "origin"],
    &["flow"],
    &["server", "admin"],
    &["config"],
    &["cli"],
];

/// These put the modules together, so they see them all.
const WIRING: &[&str] = &["lib", "main", "cli"];

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false if path.extension().is_some_and(|extension| extension == "rs") => into.push(path),
            false => {}
        }
    }
}

/// Each source file with the module on a floor that it belongs to.
fn files() -> Vec<(PathBuf, String, String)> {
    let mut paths = Vec::new();
    sources(&root().join("src"), &mut paths);
    paths.sort();
    let files = paths.into_iter().map(|path| {
        let below = path.strip_prefix(root().join("src")).unwrap();
        let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).unwrap();
        (path, module, text)
    });
    files.collect()
}

/// The modules that a text names as `crate::module`.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mentions = code.flat_map(|line| line.split("crate::").skip(1));
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    mentions.map(name).collect()
}

#[test]
fn a_module_uses_modules_on_lower_floors_alone() {
    let mut wrong = Vec::new();
    for (path, module, text) in files() {
        if WIRING.contains(&module.as_str()) {
            continue;
        }
        let own = floor(&module).unwrap_or_else(|| panic!("`{module}` is on no floor; {}", path.display()));
        for used in named(&text).into_iter().filter(|used| *used != module) {
            if floor(&used).is_none_or(|floor| floor >= own) {
                wrong.push(format!("{}: `{module}` is on floor {own} and uses `{used}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_dependency_is_written_so_that_it_shows() {
    for (path, _, text) in files() {
        assert!(!text.contains("use crate::{"), "{}: one `use crate::module::…` a module", path.display());
    }
}

#[test]
fn every_module_stands_on_the_map() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (path, module, _) in files().into_iter().filter(|(path, ..)| !path.ends_with("tests.rs")) {
        let below = path.strip_prefix(root().join("src")).unwrap().with_extension("");
        let name = match below.file_name().unwrap().to_str().unwrap() {
            "mod" => below.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned(),
            name => name.to_owned(),
        };
        assert!(map.contains(&format!("`{module}`")) || WIRING.contains(&module.as_str()), "`{module}` is not on the map");
        assert!(map.contains(&format!("`{name}`")), "{} is not on the map", path.display());
    }
}

#[test]
fn every_file_says_in_its_first_line_what_it_is_for() {
    for (path, _, text) in files() {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 10, "{}: {first}", path.display());
    }
}

#[test]
fn the_semantics_know_no_time_and_no_io() {
    let forbidden = ["tokio", "std::net", "std::fs", "std::io", "SystemTime::now", "Instant::now", "tracing", "Mutex", "RwLock"];
    for (path, _, text) in files().into_iter().filter(|(_, module, _)| module == "semantics") {
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for word in forbidden {
            assert!(!code.contains(word), "{} uses `{word}`", path.display());
        }
    }
}

#[test]
fn files_stay_small_enough_to_have_one_noun() {
    for (path, _, text) in files() {
        let is_test = |line: &str| line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test,");
        let lines = text.lines().take_while(|line| !is_test(line)).count();
        assert!(lines <= 420, "{} has {lines} lines before its tests", path.display());
    }
}
