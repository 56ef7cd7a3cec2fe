//! `[admin]`: who looks after it, from where, and what they may.

use super::Config;
use super::addresses::listen_or_off;
use super::raw::Value;
use super::reader::{Parsed, Section};
use super::values::{boolean, list, quote, secret, string};
use http::Uri;
use http::uri::Authority;

/// Reads `[admin]`.
pub(super) fn read(section: &mut Section<'_>, config: &mut Config) {
    let options = &mut config.admin;
    let listen_place = section.place_of("listen");
    section.read("listen", &mut options.listen, listen_or_off);
    if let (Some(place), Some(listen)) = (listen_place, options.listen)
        && listen == config.server.listen
        && listen.port() != 0
    {
        let message = format!("{listen} is the address of [server] listen; for one port write on_proxy_port = true");
        section.problem(&place, "listen", message);
    }
    section.read("hosts", &mut options.hosts, list(host));
    section.read("origins", &mut options.origins, list(page_origin));
    let has_token = section.place_of("token").is_some();
    section.read("token", &mut options.token, |value| secret(value).map(Some));
    if let Some((true, place)) = section.take_with_place("on_proxy_port", boolean) {
        options.on_proxy_port = true;
        if !has_token {
            let message = "needs [admin] token or ADMIN_TOKEN: everybody who reaches the proxy reaches the admin paths";
            section.absence(&place, "on_proxy_port", message);
        }
    }
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
