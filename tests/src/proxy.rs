//! A network between Freehold and a server: it can keep what is sent on its way, lead elsewhere,
//! or break.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep_until};

use crate::error::{Error, Result};
use crate::server::Server;
use crate::sql::Login;

/// Pieces that may be on their way through a slow network, in each direction of a connection.
const PIECES_MAX: usize = 1_024;

/// A port of 127.0.0.1 behind which a server is.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Network {
    target: Mutex<SocketAddr>,
    connections: Mutex<Vec<Connection>>,
    /// How much later what is sent arrives.
    delay: Mutex<Duration>,
    /// Pieces that wait on their way.
    kept: AtomicUsize,
}

#[derive(Debug)]
struct Connection {
    held: watch::Sender<bool>,
    carrying: AbortHandle,
}

impl Proxy {
    /// Leads to a server.
    pub async fn to(server: &Server) -> Result<Self> {
        let failed = |error: std::io::Error| Error::Process {
            program: "proxy".to_owned(),
            message: error.to_string(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let network = Arc::new(Network {
            target: Mutex::new(place(server)),
            connections: Mutex::default(),
            delay: Mutex::default(),
            kept: AtomicUsize::new(0),
        });
        Ok(Self {
            address,
            accepting: tokio::spawn(accept(listener, Arc::clone(&network))),
            network,
        })
    }

    /// The DSN of an account of `server`, by way of this proxy.
    pub fn dsn(&self, server: &Server, login: &Login) -> String {
        let direct = place(server).to_string();
        server
            .dsn(login)
            .replace(&direct, &self.address.to_string())
    }

    /// Keeps what is sent on the connections that are open now, in both directions. New ones are
    /// not touched.
    pub fn hold(&self) {
        self.each(|connection| {
            connection.held.send_replace(true);
        });
    }

    /// Lets what is sent on connections that are opened from now on arrive so much later, in both
    /// directions.
    pub fn delay(&self, delay: Duration) {
        *locked(&self.network.delay) = delay;
    }

    /// Lets go of what was kept. It arrives, even if its sender has closed the connection since.
    pub fn release(&self) {
        self.each(|connection| {
            connection.held.send_replace(false);
        });
    }

    /// How many pieces are being kept.
    pub fn kept(&self) -> usize {
        self.network.kept.load(Ordering::Acquire)
    }

    /// The port that leads to the server.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Breaks all connections; new ones lead to another server.
    pub fn lead_to(&self, server: &Server) {
        *locked(&self.network.target) = place(server);
        self.each(|connection| connection.carrying.abort());
    }

    fn each(&self, act: impl Fn(&Connection)) {
        locked(&self.network.connections).iter().for_each(act);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.each(|connection| connection.carrying.abort());
    }
}

async fn accept(listener: TcpListener, network: Arc<Network>) {
    while let Ok((near, _)) = listener.accept().await {
        let target = *locked(&network.target);
        let (held, is_held) = watch::channel(false);
        let carrying = tokio::spawn(connect(near, target, is_held, Arc::clone(&network)));
        locked(&network.connections).push(Connection {
            held,
            carrying: carrying.abort_handle(),
        });
    }
}

async fn connect(
    near: TcpStream,
    target: SocketAddr,
    held: watch::Receiver<bool>,
    network: Arc<Network>,
) {
    // Who connects to nothing is hung up on.
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::join!(
        carry(from_near, to_far, held.clone(), &network),
        carry(from_far, to_near, held, &network)
    );
}

async fn carry(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    held: watch::Receiver<bool>,
    network: &Network,
) {
    let delay = *locked(&network.delay);
    if delay.is_zero() {
        return carry_at_once(from, to, held, network).await;
    }
    // Pieces on their way, each with the time at which it arrives.
    let (sending, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let depart = async move {
        let (mut from, mut buffer) = (from, vec![0; 64 << 10]);
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let piece = (Instant::now() + delay, buffer[..count].to_vec());
            if sending.send(piece).await.is_err() {
                return;
            }
        }
    };
    let arrive = async move {
        let mut to = to;
        while let Some((at, piece)) = arriving.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    };
    tokio::join!(depart, arrive);
}

async fn carry_at_once(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut held: watch::Receiver<bool>,
    network: &Network,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if *held.borrow() {
            network.kept.fetch_add(1, Ordering::AcqRel);
            let released = held.wait_for(|held| !held).await.is_ok();
            network.kept.fetch_sub(1, Ordering::AcqRel);
            if !released {
                return;
            }
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            // The other direction goes on: an answer may still be on its way.
            drop(to.shutdown().await);
            return;
        }
    }
}

fn place(server: &Server) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.port()))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
