//! Where routers are: addresses as people write them, and the names in them.

use std::{fmt::Debug, io, net::SocketAddr};

use async_trait::async_trait;

/// Turns a name into the addresses behind it.
///
/// The system's own resolver is the default; another one can ask a service registry.
#[async_trait]
pub trait Resolve: Debug + Send + Sync {
    /// Every address of a name. It is asked again and again: an empty answer or an error leaves
    /// the last one standing.
    ///
    /// # Errors
    /// Whatever keeps it from an answer.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// A host and a port, as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name, or an IP address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// What a router is told it was asked as.
    pub(crate) fn authority(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let authority = match text.split_once("://") {
            None => text,
            Some(("http", authority)) => authority.strip_suffix('/').unwrap_or(authority),
            Some(_) => return None,
        };
        let (host, port) = authority.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let is_odd = |c: char| c.is_whitespace() || "/@?#[]".contains(c);
        if host.is_empty() || host.contains(is_odd) {
            return None;
        }
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let host = host.to_owned();
        Some(Self { host, port })
    }
}

/// `HOST:PORT` or `http://HOST:PORT`, or several with commas in between; the one that is none is
/// the error.
pub(crate) fn parse_all(text: &str) -> Result<Vec<Address>, String> {
    text.split(',')
        .map(|one| Address::parse(one.trim()).ok_or_else(|| one.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_with_or_without_http() {
        for (text, host, port) in [
            ("127.0.0.1:7420", "127.0.0.1", 7420),
            ("http://router:7420", "router", 7420),
            ("http://router:7420/", "router", 7420),
            ("[::1]:7420", "::1", 7420),
        ] {
            let parsed = Address::parse(text).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port), "{text}");
            assert_eq!(Address::parse(&parsed.authority()), Some(parsed));
        }
        for bad in [
            "",
            "router",
            ":7420",
            "router:",
            "router:0",
            "router:70000",
            "::1:7420",
            "https://router:7420",
            "router:7420/path",
            "mysql://a:1",
            "user@router:7420",
        ] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn several_addresses_stand_between_commas() {
        let parsed = parse_all("a:1, http://b:2").unwrap();
        let shown: Vec<String> = parsed.iter().map(Address::authority).collect();
        assert_eq!(shown, ["a:1", "b:2"]);
        assert_eq!(parse_all("a:1,b"), Err("b".to_owned()));
    }
}
