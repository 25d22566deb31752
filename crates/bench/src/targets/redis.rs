//! Redis: one command per round trip on a connection per caller, or pipelined over few.

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use redis::{Cmd, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Caller, TTL};
use crate::{error::Error, servers};

/// Connections that are opened at a time.
const OPENING_MAX: usize = 16;

/// A plain connection. The driver would put a task and two channels between a caller and its
/// connection, which costs callers that share none about as much as Redis' own work.
struct Plain {
    stream: TcpStream,
    read: BytesMut,
}

pub(super) async fn callers(port: u16, count: usize) -> Result<Vec<Box<dyn Caller>>, Error> {
    let open = |_| async move {
        let path = std::path::Path::new("redis");
        let stream = TcpStream::connect(("127.0.0.1", port)).await;
        let stream = stream.map_err(Error::io(path))?;
        stream.set_nodelay(true).map_err(Error::io(path))?;
        let read = BytesMut::with_capacity(4_096);
        Ok(Box::new(Plain { stream, read }) as Box<dyn Caller>)
    };
    stream::iter(0..count)
        .map(open)
        .buffer_unordered(OPENING_MAX)
        .try_collect()
        .await
}

pub(super) async fn pipelined(
    port: u16,
    count: usize,
    connections: usize,
) -> Result<Vec<Box<dyn Caller>>, Error> {
    let mut shared = Vec::new();
    for _ in 0..connections.min(count) {
        shared.push(servers::connect_redis(port).await?);
    }
    let caller = |one: &MultiplexedConnection| Box::new(Pipelined(one.clone())) as Box<dyn Caller>;
    Ok(shared.iter().cycle().take(count).map(caller).collect())
}

impl Plain {
    /// Sends one command and waits for its answer: a status is `None`, as is "not there".
    async fn ask(&mut self, command: &Cmd) -> Result<Option<Bytes>, Error> {
        let path = std::path::Path::new("redis");
        let packed = command.get_packed_command();
        let sent = self.stream.write_all(&packed).await;
        sent.map_err(Error::io(path))?;
        loop {
            if let Some(answer) = take_answer(&mut self.read)? {
                return Ok(answer);
            }
            let read = self.stream.read_buf(&mut self.read).await;
            if read.map_err(Error::io(path))? == 0 {
                let answer = "the end of the connection".to_owned();
                return Err(Error::RedisAnswer { answer });
            }
        }
    }
}

/// The answer to a GET or SET, if all of it is there.
fn take_answer(read: &mut BytesMut) -> Result<Option<Option<Bytes>>, Error> {
    let Some(end) = read.windows(2).position(|two| two == b"\r\n") else {
        return Ok(None);
    };
    let line = String::from_utf8_lossy(&read[..end]).into_owned();
    let (kind, rest) = line.split_at(line.len().min(1));
    let wrong = || Error::RedisAnswer {
        answer: line.clone(),
    };
    match (kind, rest) {
        ("+", "OK") | ("$", "-1") => {
            read.advance(end + 2);
            Ok(Some(None))
        }
        ("$", bytes) => {
            let bytes: usize = bytes.parse().map_err(|_| wrong())?;
            if read.len() < end + 2 + bytes + 2 {
                return Ok(None);
            }
            read.advance(end + 2);
            let value = read.split_to(bytes).freeze();
            read.advance(2);
            Ok(Some(Some(value)))
        }
        _ => Err(wrong()),
    }
}

fn get(key: &[u8]) -> Cmd {
    redis::Cmd::get(key)
}

fn set(key: &[u8], value: &[u8], expires: bool) -> Cmd {
    if expires {
        redis::Cmd::set_ex(key, value, TTL.as_secs())
    } else {
        redis::Cmd::set(key, value)
    }
}

#[async_trait]
impl Caller for Plain {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        self.ask(&get(&key)).await
    }

    async fn put(&mut self, key: Bytes, value: Bytes, expires: bool) -> Result<(), Error> {
        self.ask(&set(&key, &value, expires)).await.map(drop)
    }
}

/// The driver's own way: many callers on one connection.
struct Pipelined(MultiplexedConnection);

#[async_trait]
impl Caller for Pipelined {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        let value: Option<Vec<u8>> = get(&key).query_async(&mut self.0).await?;
        Ok(value.map(Bytes::from))
    }

    async fn put(&mut self, key: Bytes, value: Bytes, expires: bool) -> Result<(), Error> {
        Ok(set(&key, &value, expires).query_async(&mut self.0).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_whole_one_after_another() {
        let mut read = BytesMut::from("$3\r\nab");
        assert!(take_answer(&mut read).unwrap().is_none());
        read.extend_from_slice(b"c\r\n+OK\r\n$-1\r\n-ERR no\r\n");
        let value = take_answer(&mut read).unwrap().unwrap();
        assert_eq!(value.as_deref(), Some(&b"abc"[..]));
        assert_eq!(take_answer(&mut read).unwrap(), Some(None));
        assert_eq!(take_answer(&mut read).unwrap(), Some(None));
        let error = take_answer(&mut read).unwrap_err();
        assert_eq!(error.to_string(), "redis answered '-ERR no'");
    }
}
