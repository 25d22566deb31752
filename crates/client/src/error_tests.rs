use std::collections::HashMap;

use super::*;

fn with_info(code: Code, domain: &str, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
    Status::with_error_details(code, "words", details)
}

#[test]
fn only_an_error_info_of_our_domain_proves_that_a_write_was_not_applied() {
    let unknown = Error::OutcomeUnknown {
        message: "words".into(),
    };
    for code in [
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Internal,
        Code::InvalidArgument,
    ] {
        let bare = Status::new(code, "words");
        assert_eq!(
            Error::from_status(&bare, CallKind::Write),
            unknown,
            "{code:?}"
        );
        let foreign = with_info(code, "somebody.else", "SHARD_DOWN");
        assert_eq!(
            Error::from_status(&foreign, CallKind::Write),
            unknown,
            "{code:?}"
        );
    }
    let ours = with_info(Code::Unavailable, ERROR_DOMAIN, "SHARD_DOWN");
    assert!(matches!(
        Error::from_status(&ours, CallKind::Write),
        Error::NotApplied { reason, .. } if reason == "SHARD_DOWN"
    ));
}

#[test]
fn outcome_unknown_stays_unknown_whatever_its_code() {
    for code in [Code::Unknown, Code::Unavailable] {
        let status = with_info(code, ERROR_DOMAIN, OUTCOME_UNKNOWN);
        let error = Error::from_status(&status, CallKind::Write);
        assert!(matches!(error, Error::OutcomeUnknown { .. }));
    }
}

#[test]
fn a_read_has_no_outcome_to_be_unknown() {
    let lost = Status::unavailable("connection reset");
    assert!(matches!(
        Error::from_status(&lost, CallKind::Read),
        Error::NotApplied { reason, .. } if reason == NO_ANSWER
    ));
}

#[test]
fn a_retry_delay_arrives() {
    let mut details = ErrorDetails::with_error_info("QUEUE_FULL", ERROR_DOMAIN, HashMap::new());
    details.set_retry_info(Some(Duration::from_millis(70)));
    let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
    assert!(matches!(
        Error::from_status(&status, CallKind::Write),
        Error::NotApplied { retry_after: Some(delay), .. } if delay == Duration::from_millis(70)
    ));
}

#[test]
fn an_invalid_argument_names_its_field_from_either_detail() {
    let metadata = HashMap::from([("field".to_owned(), "key".to_owned())]);
    let info = ErrorDetails::with_error_info("INVALID_ARGUMENT", ERROR_DOMAIN, metadata);
    let mut violation =
        ErrorDetails::with_error_info("INVALID_ARGUMENT", ERROR_DOMAIN, HashMap::new());
    violation.add_bad_request_violation("key", "too long");
    for details in [info, violation] {
        let status = Status::with_error_details(Code::InvalidArgument, "key too long", details);
        assert!(matches!(
            Error::from_status(&status, CallKind::Write),
            Error::InvalidArgument { field, .. } if field == "key"
        ));
    }
}

#[tokio::test]
async fn a_connection_that_could_not_be_made_proves_that_nothing_was_sent() {
    // Port 1 of this host: nobody listens there.
    let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let mut client = freehold_proto::v1::key_value_client::KeyValueClient::new(channel);
    let status = client
        .put(freehold_proto::v1::PutRequest::default())
        .await
        .unwrap_err();
    assert!(matches!(
        Error::from_status(&status, CallKind::Write),
        Error::NotApplied { reason, .. } if reason == NOT_SENT
    ));
}
