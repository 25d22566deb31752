//! The two listeners: callers on one, operators on the other.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Json, Router as HttpRouter,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use freehold_core::limits::{BATCH_BYTES_MAX, VALUE_BYTES_MAX};
use freehold_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        admin_server::{self, AdminServer},
        key_value_server::{self, KeyValueServer},
    },
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout_at},
};
use tonic::{service::Routes, transport::Server};
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::Builder;

use crate::{
    admin::{AdminService, Sweepers},
    admission::{Admission, admit},
    calls::Calls,
    connections, health,
    movers::Movers,
    router::Router,
    service::KeyValueService,
    unread,
};

/// The largest request message: a full batch, or the largest value, with room for keys and frames.
const MESSAGE_BYTES_MAX: usize = const_max(BATCH_BYTES_MAX, VALUE_BYTES_MAX) + (2 << 20);

/// Requests in flight on one HTTP/2 connection. Callers of single methods share connections.
const STREAMS_MAX: u32 = 4_096;

/// Headers of one request, with 32 bytes more for each. A call of ours has some 500 bytes; proxies and
/// tracing add a few kilobytes. What a caller announces beyond it is answered 431, or cut off: each
/// of [`STREAMS_MAX`] requests can hold as much of the router's memory.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// The largest HTTP/2 frame: the protocol's least. Larger ones save a fast caller of large values
/// next to nothing, and each is held whole before anything is done with it.
const FRAME_BYTES_MAX: u32 = 16 << 10;

/// Requests of one connection that were taken back before the router looked at them. More of them at
/// one time are a flood ("rapid reset"), and end the connection. Honest callers take back all they
/// have when their deadlines pass while the router is overloaded: with 100, and 128 callers on a
/// connection, theirs were ended, and with them calls that would have been answered. Each holds some
/// kilobytes.
const PENDING_RESETS_MAX: usize = 1_024;

/// Streams of one connection that this side had to reset because its caller broke the protocol,
/// since it began. A library that does so now and then is borne, one that does nothing else is not.
const OWN_RESETS_MAX: usize = 1_024;

// There is no largest age of a connection: a Pipeline is one call for as long as its caller lives,
// and one that is cut leaves outcomes unknown. Who has to spread callers over new routers restarts
// the old ones, which drain.

/// Flow-control windows: what a fast caller on a long line may have on the wire.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// See [`STREAM_WINDOW_BYTES`]; for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// A connection that is silent for so long is asked whether it lives. (So TCP need not ask; what has
/// not begun HTTP/2 yet has a limit of its own, see [`linger`](crate::linger).)
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// What both listeners serve, and reflection lists there.
const STANDARD_SERVICES: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

const fn const_max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Where a router listens; both are bound before anything is served.
#[derive(Debug)]
pub struct Listeners {
    /// For callers.
    pub public: TcpListener,
    /// For operators: gRPC `Admin`, `/metrics` and `/healthz`.
    pub admin: TcpListener,
}

/// Serves until `shutdown`, then drains: stops accepting, answers what it has, and returns within
/// the grace period.
///
/// # Errors
/// If a listener fails.
pub async fn serve(
    router: Router,
    listeners: Listeners,
    registry: Arc<Registry>,
    (sweepers, movers): (Arc<dyn Sweepers>, Arc<dyn Movers>),
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let calls = router.calls.clone();
    let grace_period = calls.settings.grace_period;
    let (reporter, health) = tonic_health::server::health_reporter();
    let explaining = from_fn_with_state(router.metrics.clone(), unread::explain);
    let admission = Admission {
        budgets: calls.budgets.clone(),
        metrics: router.metrics.clone(),
    };
    let reporting = tokio::spawn(health::report(calls.clone(), reporter));
    let key_value = KeyValueService::new(calls.clone(), router.metrics.clone());
    let key_value = KeyValueServer::new(key_value)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    let public_routes = standard_routes(health.clone(), key_value_server::SERVICE_NAME)?
        .add_service(key_value)
        .into_axum_router()
        .layer(from_fn_with_state(admission, admit));
    let public = builder()
        .add_routes(public_routes.into())
        .serve_with_incoming_shutdown(
            connections::accept(
                listeners.public,
                calls.budgets.connections.clone(),
                calls.draining.clone(),
            ),
            calls.draining.clone().cancelled_owned(),
        );
    let admin_service = AdminServer::new(AdminService::new(calls.clone(), sweepers, movers));
    let admin_routes = standard_routes(health, admin_server::SERVICE_NAME)?
        .add_service(admin_service)
        .into_axum_router()
        .layer(explaining)
        .merge(http_routes(calls.clone(), registry));
    let admin = tokio::spawn(axum::serve(listeners.admin, admin_routes).into_future());
    let mut public = std::pin::pin!(public);
    let ended = tokio::select! {
        ended = &mut public => Some(ended),
        () = shutdown => None,
    };
    tracing::info!(?grace_period, "draining");
    router.drain();
    let end = Instant::now() + grace_period;
    // Callers keep the lanes busy, so the lanes stop after them, in what is left of the time; and
    // what was cut off then still has to reach its callers.
    let mut ended = match ended {
        Some(ended) => Some(ended),
        None => timeout_at(end - grace_period / 4, &mut public).await.ok(),
    };
    let lanes_end = end - grace_period / 8;
    router.stop(lanes_end - Instant::now()).await;
    if ended.is_none() {
        tracing::warn!("callers were still connected near the end of the grace period");
        ended = timeout_at(end, &mut public).await.ok();
    }
    // The admin listener stays until the end, so that the draining can be watched.
    admin.abort();
    reporting.abort();
    ended.unwrap_or(Ok(())).map_err(io::Error::other)
}

fn builder() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(OWN_RESETS_MAX))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// What every listener serves besides `service`: health checking, and server reflection, in its
/// final version and in the one before, which many clients speak.
fn standard_routes(health: HealthServer<impl Health>, service: &str) -> io::Result<Routes> {
    let builder = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(service);
        STANDARD_SERVICES
            .into_iter()
            .fold(builder, Builder::with_service_name)
    };
    let v1 = builder().build_v1().map_err(io::Error::other)?;
    let v1alpha = builder().build_v1alpha().map_err(io::Error::other)?;
    Ok(Routes::new(health).add_service(v1).add_service(v1alpha))
}

fn http_routes(calls: Arc<Calls>, registry: Arc<Registry>) -> HttpRouter {
    HttpRouter::new()
        .route("/healthz", get(healthz).with_state(calls))
        .route("/metrics", get(metrics).with_state(registry))
}

async fn healthz(State(calls): State<Arc<Calls>>) -> Response {
    let health = health::look(&calls);
    let code = if health.status == "serving" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(health)).into_response()
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
