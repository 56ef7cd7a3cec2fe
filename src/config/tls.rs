//! The files of TLS: `[server.tls]` and `[admin.tls]` for the listeners, and what `[origin]` shows.

use super::raw::Value;
use super::reader::{Name, Parsed, Section};
use super::values::string;
use crate::origin::ClientCertificate;
use crate::server::TlsFiles;
use std::path::PathBuf;

/// Reads the table `tls` of a section. One that is there names both a certificate and its key: plain text is what there is without
/// the table, and nothing that half of it could mean.
pub(super) fn read(section: &mut Section<'_>, name: &'static str) -> Option<TlsFiles> {
    let is_written = section.has_table("tls");
    let mut files = None;
    section.within("tls", Name::Section(name), |section| {
        let place = section.place().clone();
        let has = ["certificate_file", "key_file"].map(|key| (key, section.place_of(key).is_some()));
        let (certificate, key) = (section.take("certificate_file", path), section.take("key_file", path));
        let client_ca = section.take("client_ca_file", path);
        for (key, _) in has.into_iter().filter(|(_, is_there)| is_written && !is_there) {
            section.absence(&place, key, "is missing; TLS needs a certificate and its key");
        }
        files = certificate.zip(key).map(|(certificate, key)| TlsFiles { certificate, key, client_ca });
    });
    files
}

/// Reads what `[origin]` says of the certificate that is shown to the origin.
pub(super) fn read_shown(section: &mut Section<'_>) -> Option<ClientCertificate> {
    let places = ["client_certificate_file", "client_key_file"].map(|key| (key, section.place_of(key)));
    match &places {
        [(_, Some(place)), (missing, None)] | [(missing, None), (_, Some(place))] => {
            section.absence(place, missing, "is missing; a certificate needs its key, and a key its certificate");
        }
        _ => {}
    }
    let (certificate, key) = (section.take("client_certificate_file", path), section.take("client_key_file", path));
    certificate.zip(key).map(|(certificate, key)| ClientCertificate { certificate, key })
}

/// The path of a file, which is read later.
pub(super) fn path(value: &Value) -> Parsed<PathBuf> {
    string(value).map(PathBuf::from)
}
