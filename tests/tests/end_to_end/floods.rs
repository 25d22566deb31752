//! Callers that break HTTP/2's manners: the router stays up, keeps within its memory, and serves
//! everybody else meanwhile.

use std::time::Duration;

use freehold_client::Client;
use freehold_tests::Router;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    memory::{forget_peak, memory_mib},
    scene::{Result, client, until},
};

/// How much more memory than at rest the router may take, whatever comes.
const GROWTH_MIB_MAX: u64 = 256;

/// Connections of one flood at a time.
const CALLERS: usize = 8;

/// What one of them sends, at most: it is cut off before, or has sent its share.
const FLOOD_BYTES: usize = 8 << 20;

/// The least a healthy caller has to get through while a flood lasts.
const SERVED_MIN: u64 = 50;

/// What a connection begins with, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// A header as HPACK writes it without compression.
fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        // Lengths below 127 are one byte; longer ones are 127 and the rest in groups of seven bits.
        let mut rest = text.len();
        if rest < 127 {
            bytes.push(rest as u8);
        } else {
            bytes.push(127);
            rest -= 127;
            while rest >= 128 {
                bytes.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            bytes.push(rest as u8);
        }
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The headers of a call.
fn call() -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/freehold.v1.KeyValue/Get"),
        (":authority", "flood"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    headers.map(|(name, value)| header(name, value)).concat()
}

/// What a caller sends next, by its number.
type Next = fn(u32) -> Vec<u8>;

/// Calls that are taken back at once.
fn reset(number: u32) -> Vec<u8> {
    let stream = 2 * number + 1;
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &call());
    bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    bytes
}

/// Calls that are never finished, more than a connection may have.
fn unfinished(number: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 2 * number + 1, &call())
}

fn ping(number: u32) -> Vec<u8> {
    frame(PING, 0, 0, &u64::from(number).to_be_bytes())
}

fn settings(number: u32) -> Vec<u8> {
    // The largest window and frame, in turn with others.
    let window = 65_535 + number % 2;
    let setting = [&4_u16.to_be_bytes()[..], &window.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &setting)
}

/// One call whose headers have no end.
fn endless_headers(number: u32) -> Vec<u8> {
    let more = header("x-more", &"x".repeat(8_000));
    match number {
        0 => frame(HEADERS, 0, 1, &call()),
        _ => frame(CONTINUATION, 0, 1, &more),
    }
}

/// Calls whose headers are larger than any call needs.
fn large_headers(number: u32) -> Vec<u8> {
    let stream = 2 * number + 1;
    let mut headers = call();
    headers.extend(header("x-large", &"x".repeat(15_000)));
    let mut bytes = frame(HEADERS, 0, stream, &headers);
    let more = header("x-larger", &"x".repeat(15_000));
    bytes.extend(frame(CONTINUATION, END_HEADERS, stream, &more));
    bytes
}

/// A frame that says it is larger than frames may be.
fn large_frame(number: u32) -> Vec<u8> {
    match number {
        0 => vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
        _ => vec![b'x'; 64 << 10],
    }
}

/// Bytes of no sense.
fn nonsense(number: u32) -> Vec<u8> {
    number.wrapping_mul(0x9e37_79b9).to_be_bytes().repeat(256)
}

/// Sends its share to the router, or until it is cut off. Some read what comes back, some do not.
async fn flood(router: std::net::SocketAddr, next: Next, reads: bool) -> Result<()> {
    let stream = TcpStream::connect(router).await?;
    let (mut from, mut to) = stream.into_split();
    let reading = async {
        let mut buffer = vec![0; 64 << 10];
        while reads && matches!(from.read(&mut buffer).await, Ok(1..)) {}
        // Whoever does not read keeps the connection all the same.
        std::future::pending::<()>().await;
    };
    let writing = async {
        to.write_all(PREFACE).await?;
        let (mut sent, mut number) = (0, 0);
        while sent < FLOOD_BYTES {
            // Not one system call for each.
            let mut bytes = Vec::new();
            while bytes.len() < 32 << 10 {
                bytes.extend(next(number));
                number += 1;
            }
            sent += bytes.len();
            to.write_all(&bytes).await?;
        }
        std::io::Result::Ok(())
    };
    // Being cut off is an answer, and so is not being read any more.
    tokio::select! {
        _ = timeout(Duration::from_secs(3), writing) => {}
        () = reading => {}
    }
    Ok(())
}

/// Asks until it is stopped and was served often enough; every answer has to be right. How many
/// there were, and how many requests were refused: a router with too much to do may say so.
async fn healthy(client: Client, stop: CancellationToken) -> Result<(u64, u64)> {
    let (mut served, mut refused) = (0, 0);
    while !stop.is_cancelled() || served < SERVED_MIN {
        let key = format!("healthy:{}", served % 10);
        let value = served.to_string();
        if client.put(key.clone(), value.clone()).await.is_err() {
            refused += 1;
            continue;
        }
        match client.get(key).await {
            Ok(reply) => {
                assert_eq!(
                    reply.value().map(|value| &value[..]),
                    Some(value.as_bytes())
                );
                served += 1;
            }
            Err(_) => refused += 1,
        }
    }
    Ok((served, refused))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_take_little_memory_and_nobody_elses_service() -> Result<()> {
    let mut router = Router::embedded().await?;
    let pid = router.pid()?;
    let floods: [(&str, Next); 8] = [
        ("resets", reset),
        ("unfinished calls", unfinished),
        ("pings", ping),
        ("settings", settings),
        ("endless headers", endless_headers),
        ("large headers", large_headers),
        ("large frames", large_frame),
        ("nonsense", nonsense),
    ];
    for (name, next) in floods {
        let at_rest = forget_peak(&mut router)?;
        let stop = CancellationToken::new();
        let caller = tokio::spawn(healthy(client(&router).await?, stop.clone()));
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            callers.spawn(flood(router.address(), next, number % 2 == 0));
        }
        while let Some(flooded) = callers.join_next().await {
            // The router may refuse a connection: that is an answer, too.
            drop(flooded?);
        }
        stop.cancel();
        let (served, refused) = caller.await??;
        let growth = memory_mib(&mut router, "VmHWM:")?.saturating_sub(at_rest);
        println!("{name}: {served} served, {refused} refused, {growth} MiB more at the peak");
        assert!(growth < GROWTH_MIB_MAX, "{name}: {growth} MiB");
        assert_eq!(router.pid()?, pid, "{name}: it is another process");
    }
    Ok(())
}

/// Callers that have connected and say nothing.
const IDLE: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_leave_room_for_calls() -> Result<()> {
    let limit = rustix::process::Rlimit {
        current: Some(IDLE as u64 + 2_000),
        maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
    let mut router = Router::configure(&[], "")?;
    router.set_environment("FREEHOLD__SERVER__CONNECTIONS_MAX", "12000");
    router.serve().await?;
    let at_rest = forget_peak(&mut router)?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut stream = TcpStream::connect(router.address()).await?;
        stream.write_all(PREFACE).await?;
        idle.push(stream);
    }
    until("all connections to be counted", async || {
        let (_, metrics) = router.http_get("/metrics").await?;
        let mut lines = metrics.lines();
        let line = lines.find(|line| {
            line.starts_with("freehold_limit_level{") && line.contains("connections_max")
        });
        let level = line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
        Ok(level.is_some_and(|level| level >= IDLE))
    })
    .await?;
    let stop = CancellationToken::new();
    stop.cancel();
    healthy(client(&router).await?, stop).await?;
    let growth = memory_mib(&mut router, "VmHWM:")?.saturating_sub(at_rest);
    println!("{IDLE} idle connections: {growth} MiB more at the peak");
    assert!(growth < GROWTH_MIB_MAX, "{growth} MiB");
    drop(idle);
    Ok(())
}
