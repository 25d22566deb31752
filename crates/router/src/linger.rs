//! Ending a connection so that what was said on it arrives, and ending those that say nothing.
//!
//! A socket that is closed while its caller still sends is reset, and the caller's own sending then
//! fails before it has read the last answers: the outcome of writes that were applied would be
//! unknown to it. So the writing half is closed first, and what still comes in is thrown away until
//! the caller has closed too.
//!
//! Once HTTP/2 runs on a connection, its pings find out whether the caller lives. Before that nobody
//! asks, and when the router drains it cannot wait for that long: so a caller has a time for its
//! first bytes, and a shorter one to answer the ping that HTTP/2 says farewell with.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::budget::Held;

/// How long a caller may take to read the end and to close.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// What is thrown away at once, before other tasks have their turn.
const DISCARD_BYTES: usize = 16 << 10;

/// How long a connection over the limit is let in, for its calls to be refused in words.
const REFUSING: Duration = Duration::from_secs(1);

/// What HTTP/2 begins with, whoever calls: `PRI * HTTP/2.0` and so on.
const PREFACE_BYTES: usize = 24;

/// How long a caller may take for that. It needs nothing from the router first, so it comes in the
/// packet after the handshake's; 10 s bear the loss of three in a row (TCP sends again after 1, 2
/// and 4 s).
const PREFACE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a caller may take to answer the ping of a router that drains. One that lives needs a
/// round trip, whatever else it waits for.
const FAREWELL_WAIT_MAX: Duration = Duration::from_secs(2);

/// A connection that lingers when it is shut down, unless its caller was silent for too long.
#[derive(Debug)]
pub struct Lingering {
    stream: TcpStream,
    end: End,
    patience: Patience,
    draining: CancellationToken,
    _place: Held,
}

/// How long the caller's next bytes are waited for.
#[derive(Debug)]
enum Patience {
    /// Until then for its first ones, of which so many are to come.
    Opening(Pin<Box<Sleep>>, usize),
    /// It is over the limit, and read from until then.
    Refused(Pin<Box<Sleep>>),
    /// As long as HTTP/2 does.
    Open,
    /// The router drains: until then for any sign of life.
    Leaving(Pin<Box<Sleep>>),
    /// There was one: as long as the draining goes on.
    Left,
}

/// What every call knows of its connection.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// Whether it is one too many: its calls are to be refused.
    pub is_over_limit: bool,
}

#[derive(Debug)]
enum End {
    /// Both halves are open.
    Open,
    /// Nothing more is said; the caller may finish until then.
    Closing(Pin<Box<Sleep>>),
    /// The caller has closed, or had its time.
    Closed,
}

impl Lingering {
    /// A connection that was accepted, and its place among all of them.
    #[must_use]
    pub fn new(stream: TcpStream, place: Held, draining: CancellationToken) -> Self {
        Self {
            stream,
            end: End::Open,
            patience: Patience::Opening(Box::pin(sleep(PREFACE_WAIT_MAX)), PREFACE_BYTES),
            draining,
            _place: place,
        }
    }

    /// A connection that has no place, but one among those that are told so.
    #[must_use]
    pub fn refused(stream: TcpStream, place: Held, draining: CancellationToken) -> Self {
        Self {
            patience: Patience::Refused(Box::pin(sleep(REFUSING))),
            ..Self::new(stream, place, draining)
        }
    }

    /// So many bytes came.
    fn heard(&mut self, bytes: usize) {
        match &mut self.patience {
            Patience::Opening(_, left) if bytes < *left => *left -= bytes,
            Patience::Refused(_) | Patience::Left => {}
            // Whatever comes after the router said farewell shows that the answer to it will.
            _ if self.draining.is_cancelled() => self.patience = Patience::Left,
            Patience::Opening(..) => self.patience = Patience::Open,
            Patience::Open | Patience::Leaving(_) => {}
        }
    }

    /// Nothing is there to be read: ready if it was waited for long enough. (A router that begins to
    /// drain has all its connections looked at.)
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.patience {
            Patience::Opening(..) if self.draining.is_cancelled() => Poll::Ready(()),
            Patience::Open if self.draining.is_cancelled() => {
                let mut until = Box::pin(sleep(FAREWELL_WAIT_MAX));
                let over = until.as_mut().poll(cx);
                self.patience = Patience::Leaving(until);
                over
            }
            Patience::Opening(until, _) | Patience::Refused(until) | Patience::Leaving(until) => {
                until.as_mut().poll(cx)
            }
            Patience::Open | Patience::Left => Poll::Pending,
        }
    }

    /// Throws away what the caller still sends, until it closes.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut discarded = [0; DISCARD_BYTES];
        let mut discarded = ReadBuf::new(&mut discarded);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut discarded)) {
            Ok(()) if !discarded.filled().is_empty() => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            // It closed, or broke: either way nothing more can be done for it.
            Ok(()) | Err(_) => Poll::Ready(()),
        }
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.end {
                End::Open => {
                    ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                    self.end = End::Closing(Box::pin(sleep(LINGER_MAX)));
                }
                End::Closing(time) => {
                    if time.as_mut().poll(cx).is_pending() {
                        ready!(self.poll_discard(cx));
                    }
                    self.end = End::Closed;
                }
                End::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = bytes.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, bytes);
        if read.is_ready() {
            self.heard(bytes.filled().len() - before);
            return read;
        }
        ready!(self.poll_patience(cx));
        if !matches!(self.patience, Patience::Refused(_)) {
            // It sends nothing that a close would cut off.
            self.end = End::Closed;
        }
        // As if it had closed.
        Poll::Ready(Ok(()))
    }
}

impl Connected for Lingering {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Self::ConnectInfo {
        Caller {
            is_over_limit: matches!(self.patience, Patience::Refused(_)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    const ANSWER_BYTES: usize = 64 << 10;

    fn lingering(stream: TcpStream) -> Lingering {
        Lingering::new(stream, place(), CancellationToken::new())
    }

    fn place() -> Held {
        Held::none_of(&crate::budget::Budget::new("connections", 1))
    }

    /// A caller that goes on sending, and reads only after the other side has said its last.
    async fn read_after_the_end(lingers: bool) -> io::Result<usize> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = async move {
            let (stream, _) = listener.accept().await?;
            let answer = [1; ANSWER_BYTES];
            if lingers {
                let mut stream = lingering(stream);
                stream.write_all(&answer).await?;
                stream.shutdown().await
            } else {
                let mut stream = stream;
                stream.write_all(&answer).await?;
                stream.shutdown().await
            }
        };
        let serving = tokio::spawn(serving);
        let mut caller = TcpStream::connect(address).await?;
        for _ in 0..8 {
            caller.write_all(&[2; 16 << 10]).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut answer = Vec::new();
        caller.read_to_end(&mut answer).await?;
        drop(caller);
        serving.await.map_err(io::Error::other)??;
        Ok(answer.len())
    }

    #[tokio::test]
    async fn a_caller_that_still_sends_reads_the_last_answer() {
        assert_eq!(read_after_the_end(true).await.unwrap(), ANSWER_BYTES);
    }

    #[tokio::test]
    async fn without_lingering_its_sending_fails() {
        assert!(read_after_the_end(false).await.is_err());
    }

    #[tokio::test]
    async fn a_caller_that_never_closes_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _caller = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        tokio::time::timeout(LINGER_MAX * 30, lingering(stream).shutdown())
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_answers_the_farewell_has_all_the_time_that_it_needs() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for answers in [true, false] {
            let mut caller = TcpStream::connect(address).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let draining = CancellationToken::new();
            let mut stream = Lingering::new(stream, place(), draining.clone());
            caller.write_all(&[0; PREFACE_BYTES]).await.unwrap();
            stream.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
            draining.cancel();
            if answers {
                caller.write_all(&[1]).await.unwrap();
                stream.read_exact(&mut [0]).await.unwrap();
            }
            let mut nothing = [0];
            let reading = timeout(FAREWELL_WAIT_MAX * 100, stream.read(&mut nothing));
            // Read to its end, if the time was not up before.
            assert_eq!(
                reading.await.ok().transpose().unwrap(),
                (!answers).then_some(0)
            );
        }
    }
}
