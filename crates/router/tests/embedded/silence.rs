//! Callers that say nothing keep neither a place nor a router that shuts down.

use std::time::Duration;

use freehold_router::RouterSettings;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::fixture::{Fixture, get};

/// What an HTTP/2 caller says first: the preface, and settings that change nothing.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Far above what anything here takes.
const WITHIN: Duration = Duration::from_secs(60);

/// A connection whose caller sends this and nothing more.
async fn silent_after(fixture: &Fixture, said: &[u8]) -> TcpStream {
    let mut caller = TcpStream::connect(fixture.address).await.unwrap();
    caller.write_all(said).await.unwrap();
    caller
}

#[tokio::test]
async fn a_connection_that_never_begins_loses_its_place() {
    let settings = RouterSettings {
        connections_max: 3,
        ..RouterSettings::default()
    };
    let mut fixture = Fixture::with_settings(settings).await;
    // Neither a byte, nor all that it takes to begin.
    let mut silent = [
        silent_after(&fixture, b"").await,
        silent_after(&fixture, &GREETING[..10]).await,
    ];
    for silent in &mut silent {
        let reading = async {
            while silent
                .read(&mut [0; 1_024])
                .await
                .is_ok_and(|read| read > 0)
            {}
        };
        timeout(WITHIN, reading).await.expect("the router closes");
    }
    fixture.client.get(get("k")).await.unwrap();
    let level = "limit_level{limit=\"server.connections_max\"}";
    assert_eq!(fixture.metric(level).await, 1);
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_callers_that_are_silent() {
    let settings = RouterSettings {
        grace_period: WITHIN * 2,
        ..RouterSettings::default()
    };
    let mut fixture = Fixture::with_settings(settings).await;
    let mut silent = Vec::new();
    for said in [&b""[..], &GREETING[..10], GREETING] {
        silent.push(silent_after(&fixture, said).await);
    }
    fixture.client.get(get("k")).await.unwrap();
    timeout(WITHIN, fixture.stop())
        .await
        .expect("the router waits for none of them");
}
