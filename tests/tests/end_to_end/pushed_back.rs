//! A client that sends on one stream and takes no answers is held back by flow control, and gets
//! each answer once it takes them.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use freehold_proto::v1::{self, pipeline_request, pipeline_response};
use freehold_tests::Router;
use tokio::time::{Instant, sleep};

use crate::{
    memory::{forget_peak, memory_mib},
    scene::{Result, client},
    wire,
};

/// Requests of one stream that may be under way, by default.
const IN_FLIGHT_MAX: usize = 4_096;

/// Each request and each answer has a kilobyte.
const BYTES: usize = 1_000;

/// What waits in the network besides: windows and buffers of a few MiB for requests and answers.
const IN_BUFFERS_MAX: usize = 8_192;

/// Far more than that.
const REQUESTS: usize = 40_000;

/// Requests and answers under way, each a few times (as bytes, as a message, in a queue), and the
/// allocator's slack.
const GROWTH_MIB_MAX: u64 = 64;

/// For so long nothing moves before a stream is taken to stand. Where that is too early, less is
/// shown, and nothing fails.
const STILL: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_answers_nobody_takes_stands_and_then_goes_on() -> Result<()> {
    let mut router = Router::embedded().await?;
    let key = "k".repeat(BYTES);
    let client = client(&router).await?;
    client.put(key.clone(), vec![b'x'; BYTES]).await?;
    let at_rest = forget_peak(&mut router)?;

    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let requests = (0..REQUESTS as u64).map(move |id| {
        counted.fetch_add(1, Ordering::Relaxed);
        v1::PipelineRequest {
            id,
            request: Some(pipeline_request::Request::Get(v1::GetRequest {
                key: key.clone().into(),
                read: None,
            })),
            timeout: None,
        }
    });
    let mut stub = wire::stub(&router).await?;
    let call = stub.pipeline(tokio_stream::iter(requests)).await?;
    let mut responses = call.into_inner();

    let (mut seen, mut since) = (0, Instant::now());
    while since.elapsed() < STILL {
        sleep(Duration::from_millis(20)).await;
        let now = taken.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
    let growth = memory_mib(&mut router, "VmHWM:")?.saturating_sub(at_rest);
    println!("{seen} requests were taken; {growth} MiB more than at rest");
    assert!(
        seen <= IN_FLIGHT_MAX + IN_BUFFERS_MAX,
        "{seen} requests were taken"
    );
    assert!(growth < GROWTH_MIB_MAX, "{growth} MiB");
    // Others are served meanwhile.
    client.put("other", "v").await?;

    let mut answered = HashSet::new();
    while let Some(response) = responses.message().await? {
        let Some(pipeline_response::Response::Get(get)) = response.response else {
            return Err(format!("{response:?}").into());
        };
        assert_eq!(get.entry.map(|entry| entry.value.len()), Some(BYTES));
        assert!(answered.insert(response.id), "{} twice", response.id);
    }
    assert_eq!(answered.len(), REQUESTS);
    Ok(())
}
