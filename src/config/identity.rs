//! `[identity]`: which tokens are believed.

use super::Config;
use super::reader::Section;
use super::values::{duration, string};
use std::path::PathBuf;
use std::time::Duration;

/// Reads the section.
pub(super) fn read(section: &mut Section<'_>, config: &mut Config) {
    let options = &mut config.identity;
    section.read("jwks_file", &mut options.jwks_file, |value| string(value).map(|path| Some(PathBuf::from(path))));
    section.read("issuer", &mut options.issuer, |value| string(value).map(Some));
    section.read("audience", &mut options.audience, |value| string(value).map(Some));
    section.read("leeway", &mut options.leeway, duration(Duration::ZERO..=LEEWAY_MAX));
}

/// Clocks that differ by more are wrong.
const LEEWAY_MAX: Duration = Duration::from_secs(5 * 60);
