//! What a call costs in this process: callers of one client against a router that answers at once.
//!
//! `cargo run --release -p freehold-client --example throughput -- 256 5` lets 256 callers loose
//! for 5 seconds. The router is another process, so that the CPU time shown is the client's alone.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    pin::Pin,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use freehold_client::{Client, ClientOptions};
use freehold_proto::v1::{self, key_value_server, pipeline_request, pipeline_response};
use futures::{Stream, StreamExt as _};
use tokio::{net::TcpListener, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;
type Messages<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

/// Clock ticks of `/proc` in a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return serve().await;
    }
    let number = |place: usize, default| {
        let given = arguments.get(place).map(|text| text.parse::<u64>());
        given.transpose().map(|given| given.unwrap_or(default))
    };
    let (callers, seconds, streams) = (number(0, 256)?, number(1, 5)?, number(2, 1)?);
    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    let stdout = server.stdout.take().ok_or("no output")?;
    BufReader::new(stdout).read_line(&mut address)?;
    let measured = measure(address.trim(), callers, seconds, usize::try_from(streams)?).await;
    server.kill()?;
    server.wait()?;
    measured
}

#[allow(clippy::cast_precision_loss)]
async fn measure(address: &str, callers: u64, seconds: u64, streams: usize) -> Result<()> {
    let options = ClientOptions {
        streams,
        ..ClientOptions::default()
    };
    let client = Client::connect(address, &options).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let (client, stop, count) = (client.clone(), stop.clone(), count.clone());
        let key = bytes::Bytes::from(format!("user:{caller:012}"));
        tasks.spawn(async move {
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                client.get(key.clone()).await?;
                done += 1;
            }
            count.fetch_add(done, Ordering::Relaxed);
            Ok::<_, freehold_client::Error>(())
        });
    }
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let done = count.load(Ordering::Relaxed) as f64;
    let rate = done / began.elapsed().as_secs_f64();
    let us = (cpu_seconds()? - cpu) * 1e6 / done;
    println!("{callers} callers, {streams} streams: {rate:.0} gets/s, {us:.2} us of CPU each");
    Ok(())
}

/// User and system time of this process.
fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields = text.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .tcp_nodelay(true)
        .add_service(key_value_server::KeyValueServer::new(Echo))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

/// Answers every get with 100 bytes.
struct Echo;

/// Methods that nobody asks for, as `async_trait` would write them: it does not look into macros.
macro_rules! not_asked {
    ($($method:ident($request:ty) -> $response:ty;)*) => {$(
        fn $method<'a, 'b>(
            &'a self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(Status::unimplemented("nobody asks for it")) })
        }
    )*};
}

#[tonic::async_trait]
impl key_value_server::KeyValue for Echo {
    type ScanStream = Messages<v1::ScanResponse>;
    type PipelineStream = Messages<v1::PipelineResponse>;

    not_asked! {
        get(v1::GetRequest) -> v1::GetResponse;
        put(v1::PutRequest) -> v1::PutResponse;
        delete(v1::DeleteRequest) -> v1::DeleteResponse;
        ttl(v1::TtlRequest) -> v1::TtlResponse;
        expire(v1::ExpireRequest) -> v1::ExpireResponse;
        batch_get(v1::BatchGetRequest) -> v1::BatchGetResponse;
        batch_write(v1::BatchWriteRequest) -> v1::BatchWriteResponse;
        scan(v1::ScanRequest) -> Self::ScanStream;
    }

    async fn pipeline(
        &self,
        request: Request<Streaming<v1::PipelineRequest>>,
    ) -> std::result::Result<Response<Self::PipelineStream>, Status> {
        let value = bytes::Bytes::from(vec![b'.'; 100]);
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            let Some(pipeline_request::Request::Get(_)) = request.request else {
                return Err(Status::unimplemented("only gets"));
            };
            let get = v1::GetResponse {
                entry: Some(v1::Entry {
                    value: value.clone(),
                    version: 0x1234_5678_9abc_def0,
                    ttl: None,
                }),
                served: Some(v1::Served {
                    shard: "a".to_owned(),
                    source: v1::Source::Master.into(),
                    staleness: Some(prost_types::Duration::default()),
                }),
            };
            Ok(v1::PipelineResponse {
                id: request.id,
                response: Some(pipeline_response::Response::Get(get)),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
