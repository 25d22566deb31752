//! A network between two programs that can be slow, one-way, cut or gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freehold_tests::Port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::Result;

/// What the network does with what is sent over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It carries it.
    Open,
    /// Each piece takes so long, in both directions.
    Slow(Duration),
    /// So many bytes a second, in both directions.
    Narrow(u32),
    /// What is asked is kept, and arrives when this is over.
    KeepRequests,
    /// What is answered is kept, and arrives when this is over.
    KeepReplies,
    /// Both.
    KeepAll,
    /// A request arrives; the connection breaks where its answer begins.
    CutReplies,
    /// Every connection breaks, and none is made.
    Gone,
}

impl Mode {
    fn keeps(self, is_request: bool) -> bool {
        match self {
            Self::KeepAll => true,
            Self::KeepRequests => is_request,
            Self::KeepReplies => !is_request,
            _ => false,
        }
    }

    /// Whether a piece that is sent now does not arrive as it would over an open network.
    fn touches(self, is_request: bool) -> bool {
        match self {
            Self::Open => false,
            Self::Slow(_) | Self::Narrow(_) | Self::Gone => true,
            Self::CutReplies => !is_request,
            Self::KeepRequests | Self::KeepReplies | Self::KeepAll => self.keeps(is_request),
        }
    }
}

/// A port of this machine that leads to another one.
#[derive(Debug)]
pub struct Link {
    port: Port,
    mode: watch::Sender<Mode>,
    touched: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

/// What each connection sees of its link.
#[derive(Clone)]
struct Line {
    mode: watch::Receiver<Mode>,
    touched: Arc<AtomicU64>,
}

impl Line {
    fn touch(&self) {
        self.touched.fetch_add(1, Ordering::Relaxed);
    }
}

impl Link {
    /// Leads to an address, where nothing has to listen yet.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let port = Port::claim()?;
        let listener = TcpListener::bind(port.address()).await?;
        let (mode, seen) = watch::channel(Mode::Open);
        let touched = Arc::new(AtomicU64::new(0));
        let line = Line {
            mode: seen,
            touched: touched.clone(),
        };
        Ok(Self {
            port,
            mode,
            touched,
            accepting: tokio::spawn(accept(listener, target, line)),
        })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Changes what it does, to open connections too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many pieces, and connections, did not go as over an open network.
    pub fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // With its connections: they are in its own set of tasks.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, line: Line) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                if *line.mode.borrow() == Mode::Gone {
                    line.touch();
                } else {
                    connections.spawn(connect(near, target, line.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(near: TcpStream, target: SocketAddr, line: Line) {
    // Who connects to nothing is hung up on.
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    drop(near.set_nodelay(true));
    drop(far.set_nodelay(true));
    let mut until_gone = line.mode.clone();
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    let both = async {
        tokio::try_join!(
            carry(from_near, to_far, true, line.clone()),
            carry(from_far, to_near, false, line.clone())
        )
    };
    tokio::select! {
        _ = both => {}
        _ = until_gone.wait_for(|mode| *mode == Mode::Gone) => line.touch(),
    }
}

/// Ends in an error when the whole connection has to break.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_request: bool,
    mut line: Line,
) -> Result<(), ()> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let now = *line.mode.borrow();
        if count > 0 && now.touches(is_request) {
            line.touch();
        }
        match now {
            Mode::Slow(pause) => sleep(pause).await,
            Mode::Narrow(bytes) => {
                let share = count as f64 / f64::from(bytes);
                // The rest of it goes at once when this is over.
                drop(timeout(Duration::from_secs_f64(share), line.mode.changed()).await);
            }
            Mode::CutReplies if !is_request && count > 0 => return Err(()),
            _ => {}
        }
        // It ends only with the link itself.
        let opened = line.mode.wait_for(|mode| !mode.keeps(is_request)).await;
        opened.map_err(drop)?;
        if count == 0 {
            // The other direction goes on: an answer may still be on its way.
            drop(to.shutdown().await);
            return Ok(());
        }
        to.write_all(&buffer[..count]).await.map_err(drop)?;
    }
}
