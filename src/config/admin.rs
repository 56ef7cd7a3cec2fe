//! `[admin]`: who looks after it, from where, and what they may.

use super::addresses::{listen_or_off, meet};
use super::raw::{Kind, Table, Value};
use super::reader::{Name, Parsed, Section};
use super::tls;
use super::values::{boolean, list, one_of, quote, secret, string, word};
use super::{Config, Sources};
use crate::admin::{LOOPBACK, Role, Token};
use http::Uri;
use http::uri::Authority;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Reads `[admin]`.
pub(super) fn read(section: &mut Section<'_>, sources: &Sources, config: &mut Config) {
    config.admin_tls = tls::read(section, "admin.tls");
    let options = &mut config.admin;
    let listen_place = section.place_of("listen");
    section.read("listen", &mut options.listen, listen_or_off);
    if let (Some(place), Some(listen)) = (listen_place, options.listen)
        && meet(listen, config.server.listen)
    {
        let other = config.server.listen;
        let is = if listen == other { "is".to_owned() } else { format!("and {other} are") };
        let message = format!("{listen} {is} the address of [server] listen; for one port write on_proxy_port = true");
        section.problem(&place, "listen", message);
    }
    section.read("hosts", &mut options.hosts, list(host));
    section.read("origins", &mut options.origins, list(page_origin));
    section.read("purge_without_token", &mut options.purge_without_token, boolean);
    let has_token = section.place_of("token").is_some() || section.place_of("tokens").is_some();
    options.tokens.extend(section.take("token", secret).map(Token::admin));
    for (index, table) in tables(section).into_iter().enumerate() {
        let mut read = None;
        section.of_table(Name::Token(index), table, |section| read = token(section, sources, &options.tokens));
        options.tokens.extend(read);
    }
    if let Some((true, place)) = section.take_with_place("on_proxy_port", boolean) {
        options.on_proxy_port = true;
        if !has_token {
            let message = "needs [admin] token or ADMIN_TOKEN: everybody who reaches the proxy reaches the admin paths";
            section.absence(&place, "on_proxy_port", message);
        }
    }
}

fn tables(section: &mut Section<'_>) -> Vec<Table> {
    let Some(written) = section.take_raw("tokens") else {
        return Vec::new();
    };
    let place = written.place.clone();
    let items = match written.kind {
        Kind::Array(items) if !items.is_empty() => items,
        _ => {
            section.problem(&place, "tokens", "is no list of tables; each token begins with [[admin.tokens]]");
            return Vec::new();
        }
    };
    let mut tables = Vec::new();
    for item in items {
        match item.kind {
            Kind::Table(table) => tables.push(table),
            _ => section.problem(&item.place, "tokens", format!("is {}; a token begins with [[admin.tokens]]", item.describe())),
        }
    }
    tables
}

/// Reads `[[admin.tokens]]`.
fn token(section: &mut Section<'_>, sources: &Sources, others: &[Token]) -> Option<Token> {
    let place = section.place().clone();
    let has_name = section.place_of("name").is_some();
    let name = section.take_with_place("name", word(64, "-_."));
    let has_role = section.place_of("role").is_some();
    let role = section.take("role", one_of(ROLES));
    let written = ["token", "token_file", "token_env"].into_iter().filter_map(|key| section.place_of(key)).count();
    let inline = section.take_with_place("token", |value| strong(value, string(value)?));
    let from_file = section.take_with_place("token_file", |value| {
        let path = PathBuf::from(string(value)?);
        let read = secret_file(&path).map_err(|error| value.fault(format!("{} cannot be read: {error}", path.display())))?;
        Ok((strong(value, read)?, path))
    });
    let from_environment = section.take_with_place("token_env", |value| {
        let name = string(value)?;
        match sources.variable(&name) {
            Some(found) => strong(value, found.to_owned()),
            None => Err(value.fault(format!("{} is no variable of the environment, or an empty one", quote(&name)))),
        }
    });
    if !has_name {
        section.absence(&place, "name", "is missing; it tells in logs and lists who did something");
    }
    if !has_role {
        section.absence(&place, "role", "is missing; write \"read\", \"purge\" or \"all\"");
    }
    if written != 1 {
        section.absence(&place, "token", "write one of token, token_file and token_env");
    }
    let (value, file, value_place) = match (inline, from_file, from_environment) {
        (_, Some(((value, file), place)), _) => (value, Some(file), place),
        (Some((value, place)), ..) | (.., Some((value, place))) => (value, None, place),
        _ => return None,
    };
    let ((name, name_place), role) = (name?, role?);
    if name == LOOPBACK {
        section.problem(&name_place, "name", format!("{name:?} is what callers are called who need no token"));
    }
    if others.iter().any(|other| other.name == name) {
        section.problem(
            &name_place,
            "name",
            format!("{name:?} stands twice; \"admin\" is that of [admin] token and ADMIN_TOKEN"),
        );
    }
    if let Some(other) = others.iter().find(|other| other.value == value) {
        section.problem(
            &value_place,
            "token",
            format!("is the same as that of {:?}; nobody could tell the two apart", other.name),
        );
    }
    Some(Token { name, role, value, file })
}

/// A token that nobody tries out. What it is, is never shown.
fn strong(value: &Value, token: String) -> Parsed<String> {
    match token.len() {
        0 => Err(value.fault("is empty")),
        1..TOKEN_MIN => Err(value.fault(format!("is shorter than {TOKEN_MIN} signs; `openssl rand -hex 32` makes a good one"))),
        _ if !token.bytes().all(|octet| octet.is_ascii_graphic()) => {
            Err(value.fault("holds blanks or signs outside of ASCII; `openssl rand -hex 32` makes a good one"))
        }
        _ => Ok(token),
    }
}

/// The text of a file that holds a secret, without the line break that ends most of them.
fn secret_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SECRET_FILE_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// A name under which the admin listener may be asked.
fn host(value: &Value) -> Parsed<String> {
    let written = string(value)?;
    match written.parse::<Authority>() {
        Ok(named) if named.host() == written && !written.starts_with('*') => Ok(written),
        _ => Err(value.fault(format!("{} is not a host; write a name alone, such as \"sidecache.internal\"", quote(&written)))),
    }
}

/// The origin of a web page, as browsers write it.
fn page_origin(value: &Value) -> Parsed<String> {
    let written = string(value)?;
    let is_origin = written.parse::<Uri>().is_ok_and(|uri| {
        let parts = (uri.scheme_str(), uri.authority());
        matches!(parts, (Some(scheme), Some(authority)) if written.eq_ignore_ascii_case(&format!("{scheme}://{authority}")))
    });
    match is_origin {
        true => Ok(written),
        false => {
            Err(value.fault(format!("{} is not the origin of a page, such as \"https://ops.example.com\"", quote(&written))))
        }
    }
}

const ROLES: &[(&str, Role)] = &[("read", Role::Read), ("purge", Role::Purge), ("all", Role::All)];

/// 16 signs of a random token are more than anybody tries out.
const TOKEN_MIN: usize = 16;

/// Longer than any token.
const SECRET_FILE_MAX: u64 = 4 << 10;
