//! Callers that break HTTP/2's manners: the router stays up, keeps within its memory, and serves
//! everybody else meanwhile.

use std::time::Duration;

use freehold_client::Client;
use freehold_tests::Router;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    memory::{forget_peak, memory_mib},
    scene::{Result, client, until},
};

/// How much more memory than at rest the router may take, whatever comes.
const GROWTH_MIB_MAX: u64 = 256;

/// Connections of one flood at a time.
const CALLERS: usize = 8;

/// What one of them sends on a connection, at most: it is cut off before, or has sent its share.
const FLOOD_BYTES: usize = 8 << 20;

/// The least a healthy caller has to get through while a flood lasts.
const SERVED_MIN: u64 = 10;

/// What that may take. How fast it goes is a question for a quiet machine.
const SERVED_WITHIN: Duration = Duration::from_secs(60);

/// A refused caller asks again after that.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// How long a flood lasts, at least, and a connection of it, at most.
const FLOOD_LASTS_MIN: Duration = Duration::from_secs(3);

/// Who was cut off comes back after that.
const PAUSE_AFTER_CUT: Duration = Duration::from_millis(10);

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
        _ = timeout(FLOOD_LASTS_MIN, writing) => {}
        () = reading => {}
    }
    Ok(())
}

/// How a healthy caller fared.
struct Fared {
    served: u64,
    refused: u64,
    took: Duration,
}

/// Asks for a while, and until it was served often enough, for which it has its time; every answer has
/// to be right. A router with too much to do may refuse some.
async fn healthy(client: Client) -> Result<Fared> {
    let began = Instant::now();
    let (mut served, mut refused) = (0, 0);
    let asking = async {
        while served < SERVED_MIN || began.elapsed() < FLOOD_LASTS_MIN {
            let key = format!("healthy:{}", served % 10);
            let value = served.to_string();
            let asked = async {
                client.put(key.clone(), value.clone()).await?;
                client.get(key).await
            };
            if let Ok(reply) = asked.await {
                let shown = reply.value().map(|value| &value[..]);
                assert_eq!(shown, Some(value.as_bytes()));
                served += 1;
            } else {
                refused += 1;
                sleep(PAUSE_AFTER_REFUSAL).await;
            }
        }
    };
    let in_time = timeout(SERVED_WITHIN, asking).await.is_ok();
    let took = began.elapsed();
    if !in_time {
        return Err(format!("{served} served and {refused} refused in {took:?}").into());
    }
    Ok(Fared {
        served,
        refused,
        took,
    })
}

/// One flood after another, for ever: who is cut off at once comes back.
async fn flood_again(router: std::net::SocketAddr, next: Next, reads: bool) {
    loop {
        // The router may refuse a connection: that is an answer, too.
        drop(flood(router, next, reads).await);
        sleep(PAUSE_AFTER_CUT).await;
    }
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
        let client = client(&router).await?;
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            callers.spawn(flood_again(router.address(), next, number % 2 == 0));
        }
        let fared = healthy(client).await;
        let Fared {
            served,
            refused,
            took,
        } = fared.map_err(|error| format!("{name}: {error}"))?;
        callers.shutdown().await;
        let growth = memory_mib(&mut router, "VmHWM:")?.saturating_sub(at_rest);
        println!(
            "{name}: {served} served and {refused} refused in {took:.1?}, {growth} MiB more at the peak"
        );
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
    let Fared {
        served, refused, ..
    } = healthy(client(&router).await?).await?;
    println!("{served} served, {refused} refused");
    let growth = memory_mib(&mut router, "VmHWM:")?.saturating_sub(at_rest);
    println!("{IDLE} idle connections: {growth} MiB more at the peak");
    assert!(growth < GROWTH_MIB_MAX, "{growth} MiB");
    drop(idle);
    Ok(())
}
