//! What a router takes into memory: of a large table pages, not the table, and of answers that
//! nobody takes as much as the config allows.

use std::fs;

use bytes::Bytes;
use freehold_client::{ScanOptions, Write};
use freehold_core::limits::FETCH_BYTES_MAX;
use freehold_proto::v1::{self, pipeline_request};
use freehold_tests::{Engine, Router};

use crate::{
    scene::{Cluster, Result, client, until},
    wire,
};

/// 160 MiB of values, larger than a page's share each.
const ROWS: usize = 640;
const VALUE_BYTES: usize = 256 << 10;

/// How much more memory than at rest the router may ever have, for three scans at once: pages on
/// their way in and out of each, and the allocator's slack.
const GROWTH_MIB_MAX: u64 = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_of_embedded_shards_takes_pages_into_memory() -> Result<()> {
    scans_in_little_memory(&mut Router::embedded().await?).await
}

async fn a_scan_of_servers_takes_pages_into_memory(engine: Engine) -> Result<()> {
    scans_in_little_memory(&mut Cluster::of_two(engine, "").await?.router).await
}

on_servers!(
    a_scan_of_servers_takes_pages_into_memory,
    answers_that_nobody_takes_stay_within_the_routers_room
);

/// How many streams take none of their answers, and how many answers of 1 MiB each has: 2 GiB, and
/// each stream alone stays within its own limit.
const UNREAD_STREAMS: usize = 64;
const UNREAD_ANSWERS: usize = 32;

/// What the config allows of it.
const ROOM_MIB: usize = 64;

/// What statements bring in at once, on each of two masters: two that are out and one that came back.
const STATEMENTS_MIB: usize = 2 * 3 * (FETCH_BYTES_MAX >> 20);

/// The room, what a stream has handed to its connection (a message of 1 MiB each), and what
/// statements bring in, three times: in the connection's buffer, as a packet, as rows. The allocator
/// may have as much again that is free. Unbounded, it would be 2 GiB.
const UNREAD_GROWTH_MIB_MAX: usize = 2 * (ROOM_MIB + UNREAD_STREAMS + 3 * STATEMENTS_MIB);

const _: () = assert!(UNREAD_GROWTH_MIB_MAX < UNREAD_STREAMS * UNREAD_ANSWERS / 3);

async fn answers_that_nobody_takes_stay_within_the_routers_room(engine: Engine) -> Result<()> {
    let config = format!("[server]\nanswer_bytes_max = {}\n", ROOM_MIB << 20);
    let mut cluster = Cluster::of_two(engine, &config).await?;
    let client = client(&cluster.router).await?;
    let keys: Vec<String> = (0..UNREAD_ANSWERS)
        .map(|number| format!("large:{number}"))
        .collect();
    for key in &keys {
        client.put(key.clone(), vec![b'x'; 1 << 20]).await?;
    }
    let at_rest = forget_peak(&mut cluster.router)?;
    let mut unread = Vec::new();
    for _ in 0..UNREAD_STREAMS {
        let get = |(id, key): (u64, &String)| v1::PipelineRequest {
            id,
            request: Some(pipeline_request::Request::Get(v1::GetRequest {
                key: key.clone().into(),
                read: None,
            })),
            timeout: None,
        };
        let requests: Vec<_> = (0..).zip(&keys).map(get).collect();
        let mut stub = wire::stub(&cluster.router).await?;
        let responses = stub.pipeline(futures::stream::iter(requests)).await?;
        unread.push(responses.into_inner());
    }
    let metric = async |name: &str, labels: &str| -> Result<usize> {
        let (_, metrics) = cluster.router.http_get("/metrics").await?;
        let lines = metrics.lines();
        let lines = lines.filter(|line| line.starts_with(name) && line.contains(labels));
        Ok(lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
            .sum())
    };
    until("every read to be answered or refused", async || {
        let ended = metric("freehold_operation_seconds_count{", "\"get\"").await?;
        Ok(ended >= UNREAD_STREAMS * UNREAD_ANSWERS)
    })
    .await?;
    let level = metric("freehold_limit_level{", "answer_bytes_max").await?;
    let refused = metric("freehold_errors_total{", "ROUTER_FULL").await?;
    assert!(
        (ROOM_MIB / 2..=ROOM_MIB).contains(&(level >> 20)) && refused > 0,
        "{level} bytes are held, {refused} reads were refused"
    );
    let growth = memory_mib(&mut cluster.router, "VmHWM:")?.saturating_sub(at_rest);
    println!("{at_rest} MiB at rest, {growth} MiB more at the peak");
    assert!(growth < UNREAD_GROWTH_MIB_MAX as u64, "{growth} MiB");
    drop(unread);
    // The room is free again.
    until("reads to be answered", async || {
        Ok(client.get("large:0").await.is_ok())
    })
    .await
}

async fn scans_in_little_memory(router: &mut Router) -> Result<()> {
    let client_of_writes = client(router).await?;
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    let rows: Vec<usize> = (0..ROWS).collect();
    for rows in rows.chunks(16) {
        let put = |row: &usize| Write::Put {
            key: format!("large:{row}").into(),
            value: value.clone(),
            ttl: None,
        };
        for result in client_of_writes.batch_write(rows.iter().map(put)).await? {
            result?;
        }
    }
    router.kill();
    router.serve().await?;
    let at_rest = forget_peak(router)?;

    let client = client(router).await?;
    let options = ScanOptions::default();
    // Nobody reads more than the first row of these.
    let (mut unread, mut too) = (client.scan(&options).await?, client.scan(&options).await?);
    assert!(unread.next().await?.is_some() && too.next().await?.is_some());
    // This process is the client; nextest runs each test in one of its own.
    fs::write("/proc/self/clear_refs", "5")?;
    let own_at_rest = of_process(std::process::id(), "VmRSS:")?;
    let mut scan = client.scan(&options).await?;
    let mut seen = 0;
    while let Some((_, entry)) = scan.next().await? {
        assert_eq!(entry.value.len(), VALUE_BYTES);
        seen += 1;
    }
    assert!(scan.is_complete());
    assert_eq!(seen, ROWS);
    let own = of_process(std::process::id(), "VmHWM:")?.saturating_sub(own_at_rest);
    println!("{own_at_rest} MiB in the client, {own} MiB more at the peak");
    assert!(own < GROWTH_MIB_MAX, "{own} MiB in the client");
    let growth = memory_mib(router, "VmHWM:")?.saturating_sub(at_rest);
    println!("{at_rest} MiB at rest, {growth} MiB more at the peak");
    assert!(growth < GROWTH_MIB_MAX, "{growth} MiB for pages of 3 MiB");
    Ok(())
}

/// The memory the process has now. The most it has from here on is counted anew: loading the map
/// took more than it kept.
pub(crate) fn forget_peak(router: &mut Router) -> Result<u64> {
    fs::write(format!("/proc/{}/clear_refs", router.pid()?), "5")?;
    memory_mib(router, "VmRSS:")
}

pub(crate) fn memory_mib(router: &mut Router, what: &str) -> Result<u64> {
    of_process(router.pid()?, what)
}

fn of_process(pid: u32, what: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .ok_or("no such line")?;
    Ok(kib.trim().parse::<u64>()? / 1_024)
}
