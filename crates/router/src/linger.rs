//! Ending a connection so that what was said on it arrives.
//!
//! A socket that is closed while its caller still sends is reset, and the caller's own sending then
//! fails before it has read the last answers: the outcome of writes that were applied would be
//! unknown to it. So the writing half is closed first, and what still comes in is thrown away until
//! the caller has closed too.

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
use tonic::transport::server::Connected;

use crate::budget::Held;

/// How long a caller may take to read the end and to close.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// What is thrown away at once, before other tasks have their turn.
const DISCARD_BYTES: usize = 16 << 10;

/// How long a connection over the limit is let in, for its calls to be refused in words.
const REFUSING: Duration = Duration::from_secs(1);

/// A connection that lingers when it is shut down.
#[derive(Debug)]
pub struct Lingering {
    stream: TcpStream,
    end: End,
    /// Over the limit: it is read from until then.
    refused: Option<Pin<Box<Sleep>>>,
    _place: Held,
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
    pub fn new(stream: TcpStream, place: Held) -> Self {
        Self {
            stream,
            end: End::Open,
            refused: None,
            _place: place,
        }
    }

    /// A connection that has no place, but one among those that are told so.
    #[must_use]
    pub fn refused(stream: TcpStream, place: Held) -> Self {
        Self {
            refused: Some(Box::pin(sleep(REFUSING))),
            ..Self::new(stream, place)
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
        if let Some(until) = &mut self.refused
            && until.as_mut().poll(cx).is_ready()
        {
            // As if it had closed.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, bytes)
    }
}

impl Connected for Lingering {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Self::ConnectInfo {
        Caller {
            is_over_limit: self.refused.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const ANSWER_BYTES: usize = 64 << 10;

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
                let mut stream = Lingering::new(stream, place());
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
        tokio::time::timeout(LINGER_MAX * 30, Lingering::new(stream, place()).shutdown())
            .await
            .unwrap()
            .unwrap();
    }
}
