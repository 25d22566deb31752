//! How a client behaves, as plain values.

use std::{sync::Arc, time::Duration};

use crate::address::{Resolve, SystemResolver};

/// How calls are made and routers are reached. The defaults serve a busy service well.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What a call may take in all: waiting, sending, and trying again. It travels with the call,
    /// and the router answers a margin before it, so that the truth arrives; a shorter one trades
    /// certainty for speed. [`Call::timeout`](crate::Call::timeout) is for a single call.
    pub timeout: Duration,
    /// What opening a connection may take.
    pub connect_timeout: Duration,
    /// Streams that calls are spread over by their keys. Each goes to one router, and several to
    /// several routers as long as there are enough: with more routers than streams, one client
    /// uses some of them, and many clients use all. Few streams mean few and full packets, so the
    /// least work per call; a stream carries some hundred thousand calls a second.
    pub streams: usize,
    /// Requests of one stream that may be sent and not yet answered; a router takes 4,096 of one
    /// stream. What is more waits here, in order.
    pub in_flight_max: usize,
    /// Calls of one stream that may wait here to be sent. Further ones fail at once, with
    /// [`CLIENT_FULL`](crate::error::CLIENT_FULL).
    pub waiting_max: usize,
    /// What is tried again, and how often.
    pub retry: RetryOptions,
    /// How long a router that failed is left alone at first. It doubles with each failure, up to
    /// [`Self::reconnect_delay_max`]; each client takes a random part of it, so that a router that
    /// comes back does not meet all its clients at once.
    pub reconnect_delay_min: Duration,
    /// See [`Self::reconnect_delay_min`].
    pub reconnect_delay_max: Duration,
    /// How often names are resolved again, and each stream that is not with the router it would
    /// prefer (after a failure, or because there are new ones) tries to go there. A connection that
    /// breaks has names resolved at once.
    pub refresh_interval: Duration,
    /// A connection that is silent for so long is asked whether it lives.
    pub keepalive_interval: Duration,
    /// How long it may take to answer. A router that is frozen, or cut off without a word, is given
    /// up after the interval and this.
    pub keepalive_timeout: Duration,
    /// Turns names into addresses.
    pub resolver: Arc<dyn Resolve>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            streams: 2,
            in_flight_max: 1_024,
            waiting_max: 65_536,
            retry: RetryOptions::default(),
            reconnect_delay_min: Duration::from_millis(50),
            reconnect_delay_max: Duration::from_secs(2),
            refresh_interval: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
            resolver: Arc::new(SystemResolver),
        }
    }
}

/// What is tried again: reads that were not answered, and whatever a router says it did not apply
/// and may be tried again. Never a write whose outcome is unknown. All of it happens before the
/// call's deadline.
#[derive(Debug, Clone)]
pub struct RetryOptions {
    /// How often a request is sent at most; 1 never sends one twice. A request that never left this
    /// process, and one that a router gave back because it shuts down, do not count.
    pub attempts_max: u32,
    /// The pause before the second try. It doubles with each one, has a random part, and is never
    /// shorter than what the router asks for.
    pub delay_min: Duration,
    /// The longest pause, unless the router asks for more.
    pub delay_max: Duration,
    /// Tries that a client may add to its calls at once; what it has used comes back with
    /// [`Self::budget_share`].
    pub budget_max: u32,
    /// Tries that each answered call earns: of all that is sent, in the long run, at most this part
    /// is sent again. So clients do not bury a cluster that has trouble already.
    pub budget_share: f32,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            delay_min: Duration::from_millis(20),
            delay_max: Duration::from_secs(1),
            budget_max: 2_000,
            budget_share: 0.1,
        }
    }
}

impl RetryOptions {
    /// Sends nothing twice: every error reaches its caller as it came.
    #[must_use]
    pub fn never() -> Self {
        Self {
            attempts_max: 1,
            ..Self::default()
        }
    }
}
