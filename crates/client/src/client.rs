//! The client: a method for each of `KeyValue`'s, and the tasks behind them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use freehold_core::limits::VALUE_BYTES_MAX;
use freehold_proto::v1::{self, pipeline_request::Request};
use rand::{
    Rng as _, SeedableRng as _,
    rngs::{StdRng, SysRng},
};
use tokio::{task::AbortHandle, time::Instant};

use crate::{
    address,
    batch::{BatchGet, BatchWrite},
    call::Call,
    connect::ConnectError,
    error::Error,
    options::ClientOptions,
    pipe::{Closing, Keeper, Pipe},
    retry::Retries,
    routers::Routers,
    scan::{Scan, ScanOptions},
    types::{DeleteReply, ExpireReply, GetReply, PutReply, TtlReply, Write, to_wire_duration},
};

/// Room for the largest value and what stands around it.
pub(crate) const MESSAGE_BYTES_MAX: usize = VALUE_BYTES_MAX + (1 << 20);

/// Bytes of key and value in one request: whatever a router is set to, it takes no more.
pub(crate) const REQUEST_BYTES_MAX: usize = VALUE_BYTES_MAX + (64 << 10);

/// Longer than any call, and far from the end of the clock.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Calls to the routers of one cluster.
///
/// Clones are cheap and share everything: a program needs one client, made inside its tokio
/// runtime. When the last clone and the last call are dropped, its connections end.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ClientOptions,
    pipes: Vec<Arc<Pipe>>,
    routers: Arc<Routers>,
    retries: Arc<Retries>,
    /// Spreads calls that use no pipe.
    turn: AtomicUsize,
    tasks: Vec<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Client {
    /// Connects to `HOST:PORT` or `http://HOST:PORT`, or to several of them with commas in between:
    /// all routers of one cluster. A name may have many addresses; each is a router.
    ///
    /// Returns as soon as one router takes calls.
    ///
    /// # Errors
    /// [`ConnectError`], if none of them can be reached.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or if an option that says how many is 0.
    pub async fn connect(addresses: &str, options: &ClientOptions) -> Result<Self, ConnectError> {
        let client = Self::connect_lazily(addresses, options)?;
        client.inner.routers.first_contact().await?;
        Ok(client)
    }

    /// As [`Self::connect`], without waiting for a router: calls wait for one until their
    /// deadlines.
    ///
    /// # Errors
    /// [`ConnectError`], but never because of what a router does.
    ///
    /// # Panics
    /// As [`Self::connect`].
    pub fn connect_lazily(addresses: &str, options: &ClientOptions) -> Result<Self, ConnectError> {
        assert!(
            options.streams > 0 && options.in_flight_max > 0 && options.waiting_max > 0,
            "a client without room carries nothing"
        );
        let wrong = |address| ConnectError::Address { address };
        let addresses = address::parse_all(addresses).map_err(wrong)?;
        let no_randomness = |error: rand::rngs::SysError| ConnectError::NoRandomness {
            reason: error.to_string(),
        };
        let mut random = StdRng::try_from_rng(&mut SysRng).map_err(no_randomness)?;
        let retries = Arc::new(Retries::new(options.retry.clone(), random.next_u64()));
        let routers = Arc::new(Routers::new(
            addresses,
            options.clone(),
            retries.clone(),
            random.next_u64(),
        ));
        let mut tasks = Vec::with_capacity(options.streams * 2 + 1);
        let resolving = routers.clone();
        tasks.push(tokio::spawn(async move { resolving.keep_resolving().await }).abort_handle());
        let mut pipes = Vec::with_capacity(options.streams);
        for index in 0..options.streams {
            let pipe = Arc::new(Pipe::new(options));
            let keeper = Keeper {
                pipe: pipe.clone(),
                index,
                routers: routers.clone(),
                retries: retries.clone(),
                options: options.clone(),
            };
            let (closing, watched) = (Closing(pipe.clone()), pipe.clone());
            let task = async move {
                let _closing = closing;
                tokio::join!(keeper.run(), watched.watch_the_clock());
            };
            tasks.push(tokio::spawn(task).abort_handle());
            pipes.push(pipe);
        }
        let inner = Inner {
            options: options.clone(),
            pipes,
            routers,
            retries,
            turn: AtomicUsize::new(0),
            tasks,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Reads one key. A key that is not there is a normal answer without entry.
    ///
    /// ```
    /// # freehold_tests::doctest(async |address| {
    /// # use freehold_client::*;
    /// # let client = Client::connect(address, &ClientOptions::default()).await?;
    /// # client.put("user:1", "Ada").await?;
    /// let reply = client.get("user:1").await?;
    /// assert_eq!(reply.value().unwrap(), "Ada");
    ///
    /// // From any replica, and only if it comes soon:
    /// let nobody = client
    ///     .get("user:2")
    ///     .consistency(Consistency::Eventual)
    ///     .timeout(std::time::Duration::from_secs(1))
    ///     .await?;
    /// assert_eq!(nobody.entry, None);
    /// # Ok(()) });
    /// ```
    pub fn get(&self, key: impl Into<Bytes>) -> Call<GetReply> {
        let (key, read) = (key.into(), None);
        self.call(Request::Get(v1::GetRequest { key, read }))
    }

    /// Stores a value, replacing what was there with its expiry. Without [`Call::ttl`] the key
    /// never expires.
    ///
    /// ```
    /// # freehold_tests::doctest(async |address| {
    /// # use freehold_client::*;
    /// # let client = Client::connect(address, &ClientOptions::default()).await?;
    /// use std::time::Duration;
    ///
    /// client.put("session:9", "token").ttl(Duration::from_secs(1_800)).await?;
    /// # Ok(()) });
    /// ```
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Call<PutReply> {
        self.call(Request::Put(v1::PutRequest {
            key: key.into(),
            value: value.into(),
            ttl: None,
        }))
    }

    /// Removes a key and tells whether it was there.
    pub fn delete(&self, key: impl Into<Bytes>) -> Call<DeleteReply> {
        self.call(Request::Delete(v1::DeleteRequest { key: key.into() }))
    }

    /// Tells how long a key has to live.
    pub fn ttl(&self, key: impl Into<Bytes>) -> Call<TtlReply> {
        let (key, read) = (key.into(), None);
        self.call(Request::Ttl(v1::TtlRequest { key, read }))
    }

    /// Lets a live key live so long from now, without touching its value: 1 ms to 100 years.
    pub fn expire(&self, key: impl Into<Bytes>, ttl: Duration) -> Call<ExpireReply> {
        let (key, ttl) = (key.into(), Some(to_wire_duration(ttl)));
        self.call(Request::Expire(v1::ExpireRequest { key, ttl }))
    }

    /// Lets a live key live for ever.
    pub fn persist(&self, key: impl Into<Bytes>) -> Call<ExpireReply> {
        let (key, ttl) = (key.into(), None);
        self.call(Request::Expire(v1::ExpireRequest { key, ttl }))
    }

    /// Reads up to 1,000 keys in one call: one result per key, in order. An answer holds some 3 MiB;
    /// keys that found no room in it are asked for again.
    ///
    /// ```
    /// # freehold_tests::doctest(async |address| {
    /// # use freehold_client::*;
    /// # let client = Client::connect(address, &ClientOptions::default()).await?;
    /// client.put("user:1", "Ada").await?;
    /// let mut replies = client.batch_get(["user:1", "user:2"]).await?;
    /// assert_eq!(replies.remove(0)?.value().unwrap(), "Ada");
    /// assert_eq!(replies.remove(0)?.value(), None);
    /// # Ok(()) });
    /// ```
    pub fn batch_get<K: Into<Bytes>>(&self, keys: impl IntoIterator<Item = K>) -> BatchGet {
        let keys = keys.into_iter().map(Into::into).collect();
        BatchGet::new(self.clone(), keys)
    }

    /// Writes up to 1,000 items or 8 MiB in one call: one result per write, in order. Not atomic
    /// across keys. The call is sent again only as a whole: a single write that was not applied is
    /// an error in its place.
    ///
    /// ```
    /// # freehold_tests::doctest(async |address| {
    /// # use freehold_client::*;
    /// # let client = Client::connect(address, &ClientOptions::default()).await?;
    /// let writes = ["a", "b"].map(|key| Write::put(key, "1"));
    /// for result in client.batch_write(writes).await? {
    ///     result?;
    /// }
    /// # Ok(()) });
    /// ```
    pub fn batch_write(&self, writes: impl IntoIterator<Item = Write>) -> BatchWrite {
        BatchWrite::new(self.clone(), writes.into_iter().collect())
    }

    /// Walks live keys. The timeout is for each message, not for the whole walk.
    ///
    /// ```
    /// # freehold_tests::doctest(async |address| {
    /// # use freehold_client::*;
    /// # let client = Client::connect(address, &ClientOptions::default()).await?;
    /// # client.put("user:1", "Ada").await?;
    /// let options = ScanOptions { prefix: "user:".into(), ..ScanOptions::default() };
    /// let mut scan = client.scan(&options).await?;
    /// while let Some((key, entry)) = scan.next().await? {
    ///     println!("{key:?} {:?}", entry.value);
    /// }
    /// # Ok(()) });
    /// ```
    ///
    /// # Errors
    /// [`Error`].
    pub async fn scan(&self, options: &ScanOptions) -> Result<Scan, Error> {
        Scan::open(self, options, self.inner.options.timeout).await
    }

    fn call<R>(&self, request: Request) -> Call<R> {
        Call::new(self.clone(), request)
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.inner.options
    }

    pub(crate) fn pipes(&self) -> &[Arc<Pipe>] {
        &self.inner.pipes
    }

    /// Which pipe carries a key: always the same one, so that its calls keep their order.
    pub(crate) fn pipe_of(&self, hash: u64) -> usize {
        // The upper half of the hash says the slot; the lower half is independent of it.
        let count = self.inner.pipes.len() as u64;
        usize::try_from((hash & 0xffff_ffff) % count).unwrap_or(0)
    }

    pub(crate) fn routers(&self) -> &Routers {
        &self.inner.routers
    }

    pub(crate) fn retries(&self) -> &Retries {
        &self.inner.retries
    }

    pub(crate) fn next_turn(&self) -> usize {
        self.inner.turn.fetch_add(1, Ordering::Relaxed)
    }
}

/// When a call that begins now has to be over.
pub(crate) fn deadline_of(now: Instant, timeout: Duration) -> Instant {
    now + timeout.min(TIMEOUT_MAX)
}
