//! Opening a connection to one address.

use tonic::transport::{Channel, Endpoint};

use crate::options::ClientOptions;

/// Flow-control windows: what a fast router may have on the wire before it is read here.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;

/// See [`STREAM_WINDOW_BYTES`]; for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Why there is no connection. Nothing was sent.
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
    /// The system gives no random numbers, without which clients would all do the same at once.
    #[error("the system gives no random numbers: {reason}")]
    NoRandomness {
        /// The system's words.
        reason: String,
    },
}

/// Opens a channel, which connects again by itself where it must.
pub(crate) async fn channel(
    authority: &str,
    options: &ClientOptions,
) -> Result<Channel, ConnectError> {
    let wrong = || ConnectError::Address {
        address: authority.to_owned(),
    };
    endpoint(authority, options)
        .ok_or_else(wrong)?
        .connect()
        .await
        .map_err(|error| ConnectError::Unreachable {
            address: authority.to_owned(),
            reason: innermost(&error),
        })
}

/// How to connect to `HOST:PORT`.
pub(crate) fn endpoint(authority: &str, options: &ClientOptions) -> Option<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).ok()?;
    Some(
        endpoint
            .connect_timeout(options.connect_timeout)
            // Small requests must not wait for company.
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout),
    )
}

/// The last cause: the transport's own words ("transport error") say nothing.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
