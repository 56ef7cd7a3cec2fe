//! Whom the sidecar trusts, and what it shows of itself, where Redis is reached over TLS.

use super::place::Place;
use crate::store::RedisOptions;
use redis::RedisResult;

/// Whether the files can be used that the options name; or which of them cannot, and why.
pub(in crate::store) fn check(options: &RedisOptions) -> Result<(), String> {
    match Place::read(&options.url) {
        Ok(mut place) => renew(&mut place, options).map_err(|error| super::describe(&error)),
        _ => Ok(()),
    }
}

/// Has the next connections to a place use what is in the files now, which may have changed since the last ones.
#[cfg(feature = "tls")]
pub(super) fn renew(place: &mut Place, options: &RedisOptions) -> RedisResult<()> {
    if !options.reads_files() || !options.is_over_tls() {
        return Ok(());
    }
    let certificates = read(options)?;
    for info in place.each() {
        *info = redis::Client::build_with_tls(info.clone(), certificates.clone())?.get_connection_info().clone();
    }
    Ok(())
}

/// Without TLS, no URL is taken that would need them.
#[cfg(not(feature = "tls"))]
pub(super) fn renew(_: &mut Place, _: &RedisOptions) -> RedisResult<()> {
    Ok(())
}

#[cfg(feature = "tls")]
fn read(options: &RedisOptions) -> std::io::Result<redis::TlsCertificates> {
    let root_cert = options.ca_file.as_deref().map(|file| pem::certificates("ca_file", file)).transpose()?;
    let shown = options.client_certificate.as_ref().map(|(certificate, key)| pem::shown(certificate, key)).transpose()?;
    Ok(redis::TlsCertificates { client_tls: shown, root_cert: root_cert.map(|(octets, _)| octets) })
}

/// What is in the files.
#[cfg(feature = "tls")]
mod pem {
    use redis::ClientTlsConfig;
    use rustls::Error;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::sign::CertifiedKey;
    use std::fmt::Display;
    use std::io;
    use std::path::Path;

    /// The octets of a file, and the certificates in it: one at least.
    pub(super) fn certificates(key: &str, file: &Path) -> io::Result<(Vec<u8>, Vec<CertificateDer<'static>>)> {
        let octets = std::fs::read(file).map_err(|error| wrong(key, file, &error))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
        match found.map_err(|error| wrong(key, file, &error))? {
            none if none.is_empty() => Err(wrong(key, file, &"there is no certificate in it, as PEM")),
            found => Ok((octets, found)),
        }
    }

    /// A certificate and the key that belongs to it.
    pub(super) fn shown(certificate: &Path, file: &Path) -> io::Result<ClientTlsConfig> {
        let of_key = |error: &dyn Display| wrong("client_key_file", file, error);
        let (client_cert, chain) = certificates("client_certificate_file", certificate)?;
        let client_key = std::fs::read(file).map_err(|error| of_key(&error))?;
        let is_encrypted = client_key.windows(ENCRYPTED.len()).any(|piece| piece == ENCRYPTED);
        let key = PrivateKeyDer::from_pem_slice(&client_key).map_err(|error| match is_encrypted {
            true => of_key(&"it is encrypted; `openssl pkey` takes the passphrase off"),
            false => of_key(&format!("there is no key in it that can be used: {error}")),
        })?;
        match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
            Ok(_) => Ok(ClientTlsConfig { client_cert, client_key }),
            Err(Error::InconsistentKeys(_)) => {
                Err(of_key(&format!("it is not the key of the certificate in {}", certificate.display())))
            }
            Err(Error::General(error)) => Err(of_key(&error)),
            Err(error) => Err(wrong("client_certificate_file", certificate, &error)),
        }
    }

    /// What the kinds of keys that need a passphrase have in common.
    const ENCRYPTED: &[u8] = b"ENCRYPTED";

    fn wrong(key: &str, file: &Path, why: &dyn Display) -> io::Error {
        io::Error::other(format!("[redis] {key}: {}: {why}", file.display()))
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;
    use rcgen::generate_simple_self_signed;

    #[test]
    fn whoever_is_spoken_to_over_tls_is_shown_what_the_files_say() {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|file| directory.path().join(file));
        let own = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        for (url, number) in [
            ("rediss://a", 1),
            // The sentinels, and the master.
            ("rediss+sentinel://a,b/mymaster", 3),
            ("rediss+cluster://a,b", 2),
        ] {
            let mut options = RedisOptions::new(url);
            let given = |place: &mut Place| -> Vec<bool> {
                let addresses = place.each().map(|info| info.addr().clone());
                addresses.map(|address| matches!(address, redis::ConnectionAddr::TcpTls { tls_params: Some(_), .. })).collect()
            };
            let mut place = Place::read(url).unwrap();
            renew(&mut place, &options).unwrap();
            assert_eq!(given(&mut place), vec![false; number], "{url}");
            options.client_certificate = Some((certificate.clone(), key.clone()));
            renew(&mut place, &options).unwrap();
            assert_eq!(given(&mut place), vec![true; number], "{url}");
        }
    }
}
