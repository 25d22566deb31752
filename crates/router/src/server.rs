//! The two listeners: callers on one, operators on the other.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Json, Router as HttpRouter,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use freehold_core::limits::{BATCH_BYTES_MAX, VALUE_BYTES_MAX};
use freehold_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{admin_server::AdminServer, key_value_server::KeyValueServer},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{service::Routes, transport::Server};

use crate::{
    admin::{AdminService, Sweepers},
    calls::Calls,
    health,
    router::Router,
    service::KeyValueService,
};

/// The largest request message: a full batch, or the largest value, with room for keys and frames.
const MESSAGE_BYTES_MAX: usize = const_max(BATCH_BYTES_MAX, VALUE_BYTES_MAX) + (2 << 20);

/// Requests in flight on one HTTP/2 connection. Callers of single methods share connections.
const STREAMS_MAX: u32 = 4_096;

/// Flow-control windows: what a fast caller on a long line may have on the wire.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// See [`STREAM_WINDOW_BYTES`]; for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// A connection that is silent for so long is asked whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

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
    sweepers: Arc<dyn Sweepers>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let calls = router.calls.clone();
    let grace_period = calls.settings.grace_period;
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let reporting = tokio::spawn(health::report(calls.clone(), reporter));
    let reflection = reflection()?;
    let key_value = KeyValueService::new(calls.clone(), router.metrics.clone());
    let public = builder()
        .add_service(
            KeyValueServer::new(key_value)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(usize::MAX),
        )
        .add_service(health_service.clone())
        .add_service(reflection.clone())
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listeners.public),
            calls.draining.clone().cancelled_owned(),
        );
    let admin_service = AdminServer::new(AdminService::new(calls.clone(), sweepers));
    let admin_routes = Routes::new(admin_service)
        .add_service(health_service)
        .add_service(reflection)
        .into_axum_router()
        .merge(http_routes(calls.clone(), registry));
    let admin = tokio::spawn(axum::serve(listeners.admin, admin_routes).into_future());
    let mut public = std::pin::pin!(public);
    tokio::select! {
        ended = &mut public => ended.map_err(io::Error::other)?,
        () = shutdown => {
            tracing::info!(?grace_period, "draining");
            router.drain();
            if timeout(grace_period, &mut public).await.is_err() {
                tracing::warn!("callers were still connected at the end of the grace period");
            }
        }
    }
    // The admin listener stays until the end, so that the draining can be watched.
    router.stop(grace_period).await;
    admin.abort();
    reporting.abort();
    Ok(())
}

fn builder() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

fn reflection() -> io::Result<
    tonic_reflection::server::v1::ServerReflectionServer<
        impl tonic_reflection::server::v1::ServerReflection,
    >,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(io::Error::other)
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
