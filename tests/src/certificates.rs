//! A certificate authority and a server certificate, made anew for each server.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

use crate::error::{Error, Result};

/// Where a server's TLS files lie.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate: what a client is told to trust.
    pub ca: PathBuf,
    /// The server's certificate, for `localhost`, 127.0.0.1 and ::1.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes an authority and a certificate it signed, and writes them into `folder`.
    ///
    /// The servers' own automatic certificates would not do: they name no host, so that a client
    /// which checks the name refuses them.
    pub fn write(folder: &Path) -> Result<Self> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority
            .distinguished_name
            .push(DnType::CommonName, "freehold test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut server = CertificateParams::new(names)?;
        server
            .distinguished_name
            .push(DnType::CommonName, "freehold test server");
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &authority)?;

        Ok(Self {
            ca: store(folder, "ca.pem", &authority.pem())?,
            certificate: store(folder, "server.pem", &certificate.pem())?,
            key: store(folder, "server-key.pem", &key.serialize_pem())?,
        })
    }
}

fn store(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(Error::io(&path))?;
    Ok(path)
}
