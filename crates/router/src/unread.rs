//! Requests that no method ever saw: messages that cannot be decoded or are too large, encodings
//! and methods that are not there.
//!
//! gRPC's own layer refuses those, in a status without details, from which a caller could not tell
//! that a write was not applied. Here the details are added, and the refusal is counted with the
//! other calls.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tonic::{Code, Status};

use crate::{metrics::Metrics, status};

/// The methods that this is about: health checking and reflection have their own rules.
const OURS: &str = "/freehold.";

/// Every method of ours by its name in the metrics, on either listener. What callers call besides
/// shares one name: they could call anything.
const METHODS: [&str; 20] = [
    "Get",
    "Put",
    "Delete",
    "Ttl",
    "Expire",
    "BatchGet",
    "BatchWrite",
    "Scan",
    "Pipeline",
    "Explain",
    "ListShards",
    "Adopt",
    "ListSweepers",
    "PauseSweepers",
    "PlanMoves",
    "StartMove",
    "GetMove",
    "ListMoves",
    "ResumeMoves",
    "CancelMoves",
];

/// The name of all methods that there are not.
const NO_METHOD: &str = "unknown";

/// Details of a status; each one that is made here has some.
const DETAILS: &str = "grpc-status-details-bin";

/// Runs the request; a refusal without details gets them, and is counted. (What has details was
/// made, and counted, by a method.)
pub async fn explain(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    run(&metrics, request, next).await
}

/// The same inside of another layer: each layer of its own costs every call microseconds.
pub async fn run(metrics: &Metrics, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    if !path.starts_with(OURS) || response.headers().contains_key(DETAILS) {
        return response;
    }
    // In the headers stands a status only if there is nothing else to the response.
    match Status::from_header_map(response.headers()) {
        Some(theirs) if theirs.code() != Code::Ok => refuse(&theirs, &path, response, metrics),
        _ => response,
    }
}

fn refuse(theirs: &Status, path: &str, theirs_whole: Response, metrics: &Metrics) -> Response {
    let no_such_method = theirs.code() == Code::Unimplemented && theirs.message().is_empty();
    let ours = if no_such_method {
        status::of_unread(&Status::unimplemented(format!(
            "there is no {path} on this listener"
        )))
    } else {
        status::of_unread(theirs)
    };
    let method = if no_such_method {
        NO_METHOD
    } else {
        method_of(path)
    };
    metrics.request(method, ours.code());
    let mut response = ours.into_http::<axum::body::Body>().into_response();
    // Such as the encodings that are accepted.
    for (name, value) in theirs_whole.headers() {
        if !response.headers().contains_key(name) {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    response
}

/// The method's name in the metrics.
#[must_use]
pub fn method_of(path: &str) -> &'static str {
    let called = path.rsplit('/').next();
    let ours = METHODS.into_iter().find(|method| called == Some(method));
    ours.unwrap_or(NO_METHOD)
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state};
    use freehold_proto::FILE_DESCRIPTOR_SET;
    use prometheus_client::{encoding::text::encode, registry::Registry};
    use prost::Message as _;
    use prost_types::{FileDescriptorSet, MethodDescriptorProto};
    use tonic::codegen::Service as _;

    use super::*;
    use crate::failure::Failure;

    #[test]
    fn every_method_of_the_contract_has_its_name() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let ours = files.iter().filter(|file| file.package() == "freehold.v1");
        let services = ours.flat_map(|file| &file.service);
        let mut methods: Vec<&str> = services
            .flat_map(|service| &service.method)
            .map(MethodDescriptorProto::name)
            .collect();
        let mut named = METHODS.to_vec();
        methods.sort_unstable();
        named.sort_unstable();
        assert_eq!(methods, named);
    }

    /// Answers one request with this status, from behind the layer.
    async fn answer(path: &str, status: Status, metrics: &Metrics) {
        let mut app: Router = Router::new()
            .fallback(move || async move { status.into_http::<Body>() })
            .layer(from_fn_with_state(metrics.clone(), explain));
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        app.call(request).await.unwrap();
    }

    #[tokio::test]
    async fn what_no_method_saw_is_counted_and_nothing_is_counted_twice() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let put = "/freehold.v1.KeyValue/Put";
        answer(put, Status::internal("cannot be decoded"), &metrics).await;
        answer(put, Status::out_of_range("too large"), &metrics).await;
        answer(put, Status::unimplemented("compressed"), &metrics).await;
        for path in ["/freehold.v1.KeyValue/Steal", "/freehold.v2.KeyValue/Put"] {
            answer(path, Status::unimplemented(""), &metrics).await;
        }
        // A method's own refusal, which the method counts, and somebody else's.
        let own = status::to_status(&Failure::ShuttingDown);
        answer(put, own, &metrics).await;
        answer(put, Status::ok(""), &metrics).await;
        answer(
            "/grpc.health.v1.Health/Check",
            Status::not_found(""),
            &metrics,
        )
        .await;
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let mut counted: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("requests_total"))
            .collect();
        counted.sort_unstable();
        assert_eq!(
            counted,
            [
                r#"{method="Put",shard="",code="INVALID_ARGUMENT"} 2"#,
                r#"{method="Put",shard="",code="UNIMPLEMENTED"} 1"#,
                r#"{method="unknown",shard="",code="UNIMPLEMENTED"} 2"#,
            ]
        );
    }
}
