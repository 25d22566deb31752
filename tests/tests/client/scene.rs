//! Routers, clients of theirs, and how to wait for what they do.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use freehold_client::{Client, ClientOptions, Resolve};
use freehold_tests::Router;

pub(crate) use freehold_tests::until;

/// What tests return: whatever went wrong, in words.
pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// For everything that a test waits for; far above what any of it takes.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

/// A deadline that no healthy call comes near.
pub(crate) const PATIENT: Duration = Duration::from_secs(30);

/// One stream, so that all keys go the same way; and nothing waits for half a minute.
pub(crate) fn options() -> ClientOptions {
    ClientOptions {
        streams: 1,
        timeout: PATIENT,
        refresh_interval: Duration::from_millis(200),
        ..ClientOptions::default()
    }
}

/// A client of these routers.
pub(crate) async fn client(routers: &[&Router], options: &ClientOptions) -> Result<Client> {
    let addresses: Vec<String> = routers
        .iter()
        .map(|router| router.address().to_string())
        .collect();
    Ok(Client::connect(&addresses.join(","), options).await?)
}

/// Keys that spread over all streams of a client.
const NAME_KEYS: u8 = 16;

/// Writes the router's name into it, so that reads tell who answered.
pub(crate) async fn name(router: &Router, name: &str) -> Result<()> {
    let client = client(&[router], &options()).await?;
    for key in 0..NAME_KEYS {
        client.put(format!("name{key}"), name.to_owned()).await?;
    }
    Ok(())
}

/// The names of the routers that answer.
pub(crate) async fn who(client: &Client) -> Result<String> {
    let mut names = BTreeSet::new();
    for key in 0..NAME_KEYS {
        let reply = client.get(format!("name{key}")).await?;
        let value = reply.value().ok_or("nobody named it")?;
        names.insert(String::from_utf8(value.to_vec())?);
    }
    Ok(names.into_iter().collect())
}

/// Names that lead where a test says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>);

impl Names {
    pub(crate) fn set(&self, name: &str, routers: &[&Router]) {
        let addresses = routers.iter().map(|router| router.address()).collect();
        self.0
            .lock()
            .expect("no holder panics")
            .insert(name.to_owned(), addresses);
    }

    pub(crate) fn clear(&self) {
        self.0.lock().expect("no holder panics").clear();
    }
}

#[tonic::async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        let known = self.0.lock().expect("no holder panics").get(host).cloned();
        known.ok_or_else(|| io::Error::other("no such name"))
    }
}
