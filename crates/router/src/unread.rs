//! Requests that no method ever saw: messages that cannot be decoded or are too large, encodings
//! and methods that are not there.
//!
//! gRPC's own layer refuses those, in a status without details, from which a caller could not tell
//! that a write was not applied. Here the details are added.

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use tonic::{Code, Status};

use crate::status;

/// The methods that this is about: health checking and reflection have their own rules.
const OURS: &str = "/freehold.";

/// Details of a status; each one that is made here has some.
const DETAILS: &str = "grpc-status-details-bin";

/// Runs the request; a refusal without details gets them.
pub async fn explain(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    if !path.starts_with(OURS) || response.headers().contains_key(DETAILS) {
        return response;
    }
    // In the headers stands a status only if there is nothing else to the response.
    match Status::from_header_map(response.headers()) {
        Some(theirs) if theirs.code() != Code::Ok => refuse(&theirs, &path, response),
        _ => response,
    }
}

fn refuse(theirs: &Status, path: &str, theirs_whole: Response) -> Response {
    let no_such_method = theirs.code() == Code::Unimplemented && theirs.message().is_empty();
    let ours = if no_such_method {
        status::of_unread(&Status::unimplemented(format!(
            "there is no {path} on this listener"
        )))
    } else {
        status::of_unread(theirs)
    };
    let mut response = ours.into_http::<axum::body::Body>().into_response();
    // Such as the encodings that are accepted.
    for (name, value) in theirs_whole.headers() {
        if !response.headers().contains_key(name) {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    response
}
