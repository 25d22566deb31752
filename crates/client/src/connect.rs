//! Opening a channel to a router.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// How calls are made.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What a call may take in all. It travels with the call, and the router answers a margin
    /// before it, so that the truth arrives; a shorter one trades certainty for speed.
    pub timeout: Duration,
    /// What opening a connection may take.
    pub connect_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
        }
    }
}

/// Why there is no channel. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be used.
    #[error("'{address}' is not an address: write HOST:PORT or http://HOST:PORT")]
    Address {
        /// As it was given.
        address: String,
    },
    /// Nothing answers there.
    #[error("no router answers at {address}: {reason}")]
    Unreachable {
        /// As it was given.
        address: String,
        /// What was tried and what came back.
        reason: String,
    },
}

/// Opens a channel, which connects again by itself where it must.
pub(crate) async fn channel(
    address: &str,
    options: &ClientOptions,
) -> Result<Channel, ConnectError> {
    endpoint(address, options)?
        .connect()
        .await
        .map_err(|error| ConnectError::Unreachable {
            address: address.to_owned(),
            reason: innermost(&error),
        })
}

fn endpoint(address: &str, options: &ClientOptions) -> Result<Endpoint, ConnectError> {
    let wrong = || ConnectError::Address {
        address: address.to_owned(),
    };
    let authority = match address.split_once("://") {
        None => address,
        Some(("http", authority)) => authority.trim_end_matches('/'),
        Some(_) => return Err(wrong()),
    };
    if !authority.contains(':') || authority.contains('/') {
        return Err(wrong());
    }
    Ok(Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|_| wrong())?
        .connect_timeout(options.connect_timeout)
        // Small requests must not wait for company.
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5)))
}

/// The last cause: the transport's own words ("transport error") say nothing.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_with_or_without_http() {
        let options = ClientOptions::default();
        for good in [
            "127.0.0.1:7420",
            "http://router:7420",
            "http://router:7420/",
            "[::1]:7420",
        ] {
            assert!(endpoint(good, &options).is_ok(), "{good}");
        }
        for bad in [
            "",
            "router",
            "https://router:7420",
            "router:7420/path",
            "mysql://a:1",
        ] {
            assert!(endpoint(bad, &options).is_err(), "{bad}");
        }
    }
}
