//! How a connection is protected.
//!
//! The driver was built to check the authority without the name (`verify_ca`), but with the version
//! of rustls it comes with it refuses a certificate of another name all the same: it looks for a
//! word that rustls no longer writes. So the names that the certificate is valid for are taken from
//! the refusal, and the second attempt asks for one of them. What is checked is then the authority
//! alone, as it should be. A certificate that names no host at all, such as the ones that MySQL
//! makes for itself, cannot be used this way.

use std::path::Path;

use mysql_async::SslOpts;

use super::error::unreachable;
use crate::{
    dsn::{MysqlTarget, SslMode},
    error::StorageError,
};

/// Why a certificate was refused for its name, as rustls says it.
const OTHER_NAME: &str = "certificate not valid for name";

/// The driver's options; `name` is asked of the certificate instead of the host's.
pub(super) async fn options(
    target: &MysqlTarget,
    name: Option<String>,
) -> Result<Option<SslOpts>, StorageError> {
    let options = SslOpts::default().with_danger_tls_hostname_override(name);
    let options = match target.ssl_mode {
        SslMode::Disabled => return Ok(None),
        SslMode::Required => options
            .with_danger_accept_invalid_certs(true)
            .with_danger_skip_domain_validation(true),
        SslMode::VerifyCa => options.with_danger_skip_domain_validation(true),
        SslMode::VerifyIdentity => options,
    };
    Ok(Some(match &target.ssl_ca {
        None => options,
        Some(path) => options
            .with_root_certs(vec![read(path, "ssl_ca file").await?.into()])
            .with_disable_built_in_roots(true),
    }))
}

/// Whether the refusal of a certificate is about its name alone.
pub(super) fn is_for_other_name(refusal: &str) -> bool {
    refusal.contains(OTHER_NAME)
}

/// A name that the refused certificate is valid for, if it has any.
pub(super) fn presented_name(refusal: &str) -> Option<String> {
    let (_, presented) = refusal.split_once(OTHER_NAME)?;
    let (_, presented) = presented.split_once("is only valid for ")?;
    let dns = || {
        let (_, name) = presented.split_once("DnsName(\"")?;
        name.split_once('"').map(|(name, _)| name)
    };
    let address = || {
        let (_, address) = presented.split_once("IpAddress(")?;
        address.split_once(')').map(|(address, _)| address)
    };
    // Any host stands for all that a wildcard covers.
    Some(dns().or_else(address)?.replacen("*.", "any.", 1))
}

/// Reads a file that a DSN names.
pub(super) async fn read(path: &Path, what: &str) -> Result<Vec<u8>, StorageError> {
    let failed =
        |error: &dyn std::fmt::Display| unreachable(format!("{what} {}: {error}", path.display()));
    let file = path.to_owned();
    match tokio::task::spawn_blocking(move || std::fs::read(file)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_a_name_to_ask_for() {
        let refusal = |names: &str| {
            format!(
                "invalid peer certificate: certificate not valid for name \"db\"; certificate {names}"
            )
        };
        for (names, expected) in [
            (
                "is only valid for DnsName(\"a.example\")",
                Some("a.example"),
            ),
            (
                "is only valid for DnsName(\"*.example\") or DnsName(\"b\")",
                Some("any.example"),
            ),
            (
                "is only valid for IpAddress(10.0.0.1) or DnsName(\"b\")",
                Some("b"),
            ),
            ("is only valid for IpAddress(10.0.0.1)", Some("10.0.0.1")),
            (
                "is not valid for any names (according to its subjectAltName extension)",
                None,
            ),
        ] {
            assert!(is_for_other_name(&refusal(names)));
            assert_eq!(
                presented_name(&refusal(names)).as_deref(),
                expected,
                "{names}"
            );
        }
        assert!(!is_for_other_name(
            "invalid peer certificate: UnknownIssuer"
        ));
    }
}
