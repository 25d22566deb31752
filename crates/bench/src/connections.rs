//! What open connections cost a router: its memory while many are open, each of which has called.

use std::time::Duration;

use clap::Args;
use freehold_proto::v1::{GetRequest, key_value_client::KeyValueClient};
use freehold_tests::{Engine, Router, Server, ServerOptions, Shard};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tonic::transport::{Channel, Endpoint};

use crate::{cpu, error::Error};

/// Connections that are opened, or call, at the same time: fewer than wait to be accepted.
const AT_ONCE: usize = 64;

/// What a process opens besides.
const OTHER_FILES: u64 = 1_000;

/// What the router has in its config so that it lets more in than it was asked for.
const MORE: usize = 100;

/// What a router may take with as many as are opened by default.
const MEMORY_MIB_MAX: f64 = 512.0;

/// How long a router keeps what it may give back.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What `connections` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectionsArgs {
    /// How many.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    count: u32,
}

/// Opens them, calls on each, and prints what the router takes meanwhile.
pub(crate) async fn run(args: ConnectionsArgs) -> Result<(), Error> {
    let count = args.count as usize;
    make_room(u64::from(args.count))?;
    let database = Server::start(ServerOptions::new(Engine::MariaDb)).await?;
    let mut router = Router::configure(&[Shard::new("a", &database, &[])], "")?;
    router.set_environment(
        "FREEHOLD__SERVER__CONNECTIONS_MAX",
        &(count + MORE).to_string(),
    );
    router.init().await?.success()?;
    router.serve().await?;
    let pid = router.pid()?;
    let idle = cpu::memory_mib(pid)?;

    let address = format!("http://{}", router.address());
    let opened = (0..count).map(|_| open(&address));
    let mut callers: Vec<KeyValueClient<Channel>> = stream::iter(opened)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    tokio::time::sleep(SETTLED_AFTER).await;
    let open = cpu::memory_mib(pid)?;

    // Each has to answer still.
    let calls = callers.iter_mut().map(call);
    let called = stream::iter(calls)
        .buffer_unordered(AT_ONCE)
        .try_fold(0, async |done, ()| -> Result<usize, Error> { Ok(done + 1) });
    let called = called.await?;
    let after = cpu::memory_mib(pid)?;
    let per_connection = (open - idle) * 1024.0 / count as f64;
    println!(
        "a router that nobody has called: {idle:.1} MiB\n\
         with {count} open connections, each of which has called: {open:.1} MiB, \
         {per_connection:.1} KiB for each\n\
         after {called} of them called once more: {after:.1} MiB (at most {MEMORY_MIB_MAX} for \
         10,000: {})",
        match open.max(after) <= MEMORY_MIB_MAX {
            true => "met",
            false => "missed",
        }
    );
    Ok(())
}

/// A connection of its own, on which a key was asked for.
async fn open(address: &str) -> Result<KeyValueClient<Channel>, Error> {
    let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
    let mut caller = KeyValueClient::new(channel);
    call(&mut caller).await?;
    Ok(caller)
}

async fn call(caller: &mut KeyValueClient<Channel>) -> Result<(), Error> {
    let request = GetRequest {
        key: b"nobody's".as_slice().into(),
        ..GetRequest::default()
    };
    caller.get(request).await.map_err(Box::new)?;
    Ok(())
}

/// Lets this process open as many files as it takes. The router does so by itself.
fn make_room(connections: u64) -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    let needed = connections + OTHER_FILES;
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let wanted = Rlimit {
        current: Some(needed),
        maximum: limit.maximum.map(|maximum| maximum.max(needed)),
    };
    setrlimit(Resource::Nofile, wanted).map_err(|error| Error::Peer {
        reason: format!("{needed} open files are needed (ulimit -n): {error}"),
    })
}
