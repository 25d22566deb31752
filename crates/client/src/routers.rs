//! The routers a client knows: where they are, and which of them are worth trying now.
//!
//! All pipes of a client see the routers in one order, which every client draws for itself, and
//! each begins at another place in it: so the streams of one client and of many are spread.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{
    address::Address,
    connect::{self, ConnectError},
    options::ClientOptions,
    retry::Retries,
};

/// Names are not resolved more often than that, whatever happens.
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);

/// One address of a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Router {
    pub(crate) at: SocketAddr,
    /// The host and port that led there.
    pub(crate) authority: Arc<str>,
}

#[derive(Debug)]
struct Known {
    router: Router,
    /// In a row.
    failures: u32,
    /// It is left alone until then.
    not_before: Option<Instant>,
    /// Why it failed last, for people.
    trouble: String,
    /// For calls that use no stream of a pipe; connects when it is used.
    channel: Option<Channel>,
}

#[derive(Debug, Default)]
struct State {
    known: Vec<Known>,
    /// Whether a stream was ever opened.
    reached: bool,
    /// Why there is no router at all.
    trouble: Option<String>,
}

/// All routers of a client.
#[derive(Debug)]
pub(crate) struct Routers {
    addresses: Vec<Address>,
    options: ClientOptions,
    retries: Arc<Retries>,
    seed: u64,
    state: Mutex<State>,
    /// Something about [`State`] is new.
    changed: Notify,
    /// A connection broke: names may lead elsewhere by now.
    doubt: Notify,
}

impl Routers {
    pub(crate) fn new(
        addresses: Vec<Address>,
        options: ClientOptions,
        retries: Arc<Retries>,
        seed: u64,
    ) -> Self {
        Self {
            addresses,
            options,
            retries,
            seed,
            state: Mutex::default(),
            changed: Notify::new(),
            doubt: Notify::new(),
        }
    }

    /// The router that is best for a pipe, as soon as there is one.
    pub(crate) async fn choose(&self, pipe: usize) -> Router {
        loop {
            // From here on no change is missed.
            let changed = self.changed.notified();
            let wait_until = match self.best(pipe, Instant::now()) {
                Ok(router) => return router,
                Err(at) => at,
            };
            match wait_until {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// The first router in the pipe's order that may be tried; else when one may.
    pub(crate) fn best(&self, pipe: usize, now: Instant) -> Result<Router, Option<Instant>> {
        let state = self.state();
        let known = &state.known;
        let mut in_order = (0..known.len()).map(|step| &known[(pipe + step) % known.len()]);
        in_order
            .find(|one| one.not_before.is_none_or(|at| at <= now))
            .map(|one| one.router.clone())
            .ok_or_else(|| known.iter().filter_map(|one| one.not_before).min())
    }

    /// A channel for calls that use no pipe, to any router that may be tried, or to any at all.
    pub(crate) fn channel(&self, turn: usize) -> Option<(Router, Channel)> {
        let chosen = self.best(turn, Instant::now()).ok();
        let mut state = self.state();
        let count = state.known.len();
        let place = match chosen {
            Some(router) => state.known.iter().position(|one| one.router == router)?,
            None => turn.checked_rem(count)?,
        };
        let known = &mut state.known[place];
        let channel = match &known.channel {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.endpoint(&known.router)?.connect_lazy();
                known.channel.insert(channel).clone()
            }
        };
        Some((known.router.clone(), channel))
    }

    /// How to connect to a router.
    pub(crate) fn endpoint(&self, router: &Router) -> Option<Endpoint> {
        let origin: Uri = format!("http://{}", router.authority).parse().ok()?;
        let endpoint = connect::endpoint(&router.at.to_string(), &self.options)?;
        Some(endpoint.origin(origin))
    }

    /// A stream to it was opened.
    pub(crate) fn reached(&self, router: &Router) {
        let mut state = self.state();
        state.reached = true;
        if let Some(known) = state.find(router) {
            known.not_before = None;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// It answered a request: whatever was wrong with it is over.
    pub(crate) fn answered(&self, router: &Router) {
        if let Some(known) = self.state().find(router) {
            known.failures = 0;
        }
    }

    /// It could not be reached, or its stream ended: others are better for a while.
    pub(crate) fn failed(&self, router: &Router, trouble: String) {
        if let Some(known) = self.state().find(router) {
            let doublings = known.failures.min(16);
            known.failures = known.failures.saturating_add(1);
            let delay = self
                .options
                .reconnect_delay_min
                .saturating_mul(1 << doublings)
                .min(self.options.reconnect_delay_max);
            let delay = delay.mul_f64(0.5 + self.retries.random() / 2.0);
            known.not_before = Some(Instant::now() + delay);
            known.trouble = trouble;
        }
        self.changed.notify_waiters();
        self.doubt.notify_one();
    }

    /// Waits until some router was reached; an error if none of them can be.
    pub(crate) async fn first_contact(&self) -> Result<(), ConnectError> {
        loop {
            let changed = self.changed.notified();
            if let Some(contact) = self.state().contact(&self.addresses) {
                return contact;
            }
            changed.await;
        }
    }

    /// Why no router can be reached, for people.
    pub(crate) fn trouble(&self) -> String {
        self.state().trouble()
    }

    /// Resolves names again and again.
    pub(crate) async fn keep_resolving(&self) {
        if self.resolve().await && self.addresses.iter().all(|one| literal(one).is_some()) {
            return;
        }
        let mut pause = RESOLVE_PAUSE;
        loop {
            sleep(pause).await;
            // A name that leads nowhere is asked again soon: calls may have no other router.
            let leads_nowhere = self.state().trouble.is_some();
            if leads_nowhere {
                pause = (pause * 2).min(RESOLVE_PAUSE.max(self.options.refresh_interval));
            } else {
                pause = RESOLVE_PAUSE;
                tokio::select! {
                    () = sleep(self.refresh_delay()) => {}
                    () = self.doubt.notified() => {}
                }
            }
            self.resolve().await;
        }
    }

    /// About the refresh interval: not all clients in the same second.
    pub(crate) fn refresh_delay(&self) -> Duration {
        let interval = self.options.refresh_interval;
        interval.mul_f64(0.75 + self.retries.random() / 2.0)
    }

    /// Looks all names up, and keeps what was known of one that gives no answer. False if there is
    /// no router at all.
    async fn resolve(&self) -> bool {
        let mut found: Vec<Router> = Vec::new();
        let mut trouble = None;
        for address in &self.addresses {
            let authority: Arc<str> = address.authority().into();
            let addresses = match literal(address) {
                Some(at) => Ok(vec![at]),
                None => self.look_up(address).await,
            };
            match addresses {
                Ok(addresses) => found.extend(addresses.into_iter().map(|at| Router {
                    at,
                    authority: authority.clone(),
                })),
                Err(error) => {
                    trouble = Some(error);
                    let state = self.state();
                    let before = state.known.iter().map(|known| &known.router);
                    found.extend(before.filter(|one| one.authority == authority).cloned());
                }
            }
        }
        found.sort_by_cached_key(|router| self.rank(router.at));
        found.dedup_by_key(|router| router.at);
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.known);
        state.known = found
            .into_iter()
            .map(
                |router| match before.iter().position(|one| one.router == router) {
                    Some(place) => before.swap_remove(place),
                    None => Known::new(router),
                },
            )
            .collect();
        state.trouble = trouble;
        let any = !state.known.is_empty();
        drop(state);
        self.changed.notify_waiters();
        any
    }

    async fn look_up(&self, address: &Address) -> Result<Vec<SocketAddr>, String> {
        let Address { host, port } = address;
        let asking = self.options.resolver.resolve(host, *port);
        match timeout(self.options.connect_timeout, asking).await {
            Ok(Ok(found)) if !found.is_empty() => Ok(found),
            Ok(Ok(_)) => Err(format!("no address is known for '{host}'")),
            Ok(Err(error)) => Err(format!("'{host}' cannot be resolved: {error}")),
            Err(_) => Err(format!("'{host}' was not resolved in time")),
        }
    }

    fn rank(&self, at: SocketAddr) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, at).hash(&mut hasher);
        hasher.finish()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, router: &Router) -> Option<&mut Known> {
        self.known.iter_mut().find(|one| one.router == *router)
    }

    fn contact(&self, addresses: &[Address]) -> Option<Result<(), ConnectError>> {
        if self.reached {
            return Some(Ok(()));
        }
        let tried = !self.known.is_empty() && self.known.iter().all(|one| one.failures > 0);
        let nowhere = self.known.is_empty() && self.trouble.is_some();
        (tried || nowhere).then(|| {
            let shown: Vec<String> = addresses.iter().map(Address::authority).collect();
            Err(ConnectError::Unreachable {
                address: shown.join(", "),
                reason: self.trouble(),
            })
        })
    }

    fn trouble(&self) -> String {
        let mut words: Vec<String> = match self.known.as_slice() {
            [one] => vec![one.trouble.clone()],
            many => many
                .iter()
                .map(|one| format!("{}: {}", one.router.at, one.trouble))
                .collect(),
        };
        words.extend(self.trouble.clone());
        words.join("; ")
    }
}

impl Known {
    fn new(router: Router) -> Self {
        Self {
            router,
            failures: 0,
            not_before: None,
            trouble: "not tried yet".to_owned(),
            channel: None,
        }
    }
}

fn literal(address: &Address) -> Option<SocketAddr> {
    let ip: IpAddr = address.host.parse().ok()?;
    Some((ip, address.port).into())
}
