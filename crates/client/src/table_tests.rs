use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::{error::NOT_SENT, options::RetryOptions, retry::Retries};

/// A table with a stream open, and all that its users would have.
struct Scene {
    table: Table,
    retries: Retries,
    stream: u64,
    now: Instant,
    wake: Wake,
}

const TIMEOUT: Duration = Duration::from_secs(5);

fn put(key: &'static str, value: &'static str) -> Request {
    Request::Put(v1::PutRequest {
        key: key.into(),
        value: value.into(),
        ttl: None,
    })
}

fn get(key: &'static str) -> Request {
    Request::Get(v1::GetRequest {
        key: key.into(),
        read: None,
    })
}

fn with_info(code: Code, reason: &str) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, "freehold", []);
    details.set_retry_info(Some(Duration::from_millis(200)));
    Status::with_error_details(code, "words", details)
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            table: Table::new(4, 8),
            retries: Retries::new(RetryOptions::default(), 0),
            stream: 0,
            now: Instant::now(),
            wake: Wake::default(),
        };
        scene.open();
        scene
    }

    fn open(&mut self) {
        self.stream = self.table.name_stream();
        self.table.open_stream(self.stream, &mut self.wake);
    }

    fn submit(&mut self, request: Request) -> Ticket {
        let hash = freehold_core::key::hash(key_of(&request));
        let deadline = self.now + TIMEOUT;
        self.table
            .submit(request, hash, deadline, Waker::noop(), &mut self.wake)
            .unwrap()
    }

    /// What goes out now: ids and values, or keys of reads.
    fn sent(&mut self) -> Vec<(u64, String)> {
        let mut out = VecDeque::new();
        let (stream, now) = (self.stream, self.now);
        while self.table.take(stream, now, &mut out, Waker::noop()) {
            if self.table.waiting.is_empty() || self.table.in_flight == self.table.in_flight_max {
                break;
            }
        }
        let words = |request: &Request| match request {
            Request::Put(put) => put.value.clone(),
            other => key_of(other).to_vec().into(),
        };
        out.iter()
            .map(|one| {
                let words = words(one.request.as_ref().unwrap());
                (one.id, String::from_utf8_lossy(&words).into_owned())
            })
            .collect()
    }

    fn answer(&mut self, id: u64, response: Answer) {
        let response = Some(response);
        let response = v1::PipelineResponse { id, response };
        self.table
            .answer(response, self.now, &self.retries, &mut self.wake);
    }

    fn refuse(&mut self, id: u64, status: &Status) {
        use prost::Message as _;
        let item = tonic_types::Status::decode(status.details()).unwrap();
        self.answer(id, Answer::Error(item));
    }

    fn end(&mut self, end: &End) {
        self.table
            .end_stream(end, self.now, &self.retries, &mut self.wake);
    }

    fn tick_after(&mut self, time: Duration) {
        self.now += time;
        self.table.tick(self.now, &mut self.wake);
    }

    fn fetch(&mut self, ticket: Ticket) -> Option<Result<Answer, Error>> {
        self.table.fetch(ticket, Waker::noop())
    }

    fn is_unknown(&mut self, ticket: Ticket) -> bool {
        matches!(self.fetch(ticket), Some(Err(Error::OutcomeUnknown { .. })))
    }

    fn reason(&mut self, ticket: Ticket) -> String {
        match self.fetch(ticket) {
            Some(Err(Error::NotApplied { reason, .. })) => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn words(sent: &[(u64, String)]) -> Vec<&str> {
    sent.iter().map(|(_, words)| words.as_str()).collect()
}

fn broken() -> End {
    End::Status(Status::unavailable("connection reset"))
}

#[test]
fn a_broken_stream_leaves_writes_unknown_sends_reads_again_and_keeps_what_was_not_sent() {
    let mut scene = Scene::new();
    let write = scene.submit(put("a", "1"));
    let read = scene.submit(get("b"));
    scene.sent();
    let unsent = scene.submit(put("c", "2"));
    scene.end(&broken());
    assert!(scene.is_unknown(write));
    assert_eq!(scene.fetch(read), None);
    assert_eq!(scene.fetch(unsent), None);
    scene.open();
    assert_eq!(words(&scene.sent()), ["2"], "the read has its pause");
    scene.tick_after(Duration::from_secs(1));
    assert_eq!(words(&scene.sent()), ["b"]);
}

#[test]
fn what_a_draining_router_gives_back_goes_first_in_its_order_at_once() {
    let mut scene = Scene::new();
    for (key, value) in [("a", "1"), ("a", "2"), ("b", "3")] {
        scene.submit(put(key, value));
    }
    scene.sent();
    scene.submit(put("a", "4"));
    scene.end(&End::Status(with_info(Code::Unavailable, "SHUTTING_DOWN")));
    scene.open();
    assert_eq!(words(&scene.sent()), ["1", "2", "3", "4"]);
}

#[test]
fn what_a_draining_router_gives_back_one_by_one_keeps_its_order_too() {
    let draining = with_info(Code::Unavailable, "SHUTTING_DOWN");
    let mut scene = Scene::new();
    for (key, value) in [("a", "1"), ("a", "2"), ("b", "3")] {
        scene.submit(put(key, value));
    }
    let sent = scene.sent();
    scene.refuse(sent[0].0, &draining);
    scene.submit(put("a", "4"));
    let (stream, now, mut out) = (scene.stream, scene.now, VecDeque::new());
    let goes_on = scene.table.take(stream, now, &mut out, Waker::noop());
    assert!(!goes_on && out.is_empty(), "it would come back only");
    scene.refuse(sent[1].0, &draining);
    // The third is given back with the stream.
    scene.end(&End::Status(draining));
    scene.open();
    assert_eq!(words(&scene.sent()), ["1", "2", "3", "4"]);
}

#[test]
fn a_write_that_is_given_back_does_not_come_after_a_later_one_to_its_key() {
    let draining = with_info(Code::Unavailable, "SHUTTING_DOWN");
    let silent = || End::Silent("over".to_owned());
    // The later one was applied.
    let mut scene = Scene::new();
    let first = scene.submit(put("a", "1"));
    let other = scene.submit(put("b", "other"));
    let second = scene.submit(put("a", "2"));
    let sent = scene.sent();
    scene.refuse(sent[0].0, &draining);
    scene.refuse(sent[1].0, &draining);
    assert_eq!(scene.fetch(first), None);
    scene.answer(sent[2].0, Answer::Put(v1::PutResponse::default()));
    assert_eq!(scene.reason(first), "SHUTTING_DOWN");
    assert!(matches!(scene.fetch(second), Some(Ok(_))));
    scene.end(&silent());
    scene.open();
    assert_eq!(words(&scene.sent()), ["other"]);
    assert_eq!(scene.fetch(other), None);
    // Or nobody knows whether it was.
    let mut scene = Scene::new();
    let (first, second) = (scene.submit(put("a", "1")), scene.submit(put("a", "2")));
    let id = scene.sent()[0].0;
    scene.refuse(id, &draining);
    scene.end(&silent());
    assert_eq!(scene.reason(first), "SHUTTING_DOWN");
    assert!(scene.is_unknown(second));
    // Or its caller was told so before.
    let mut scene = Scene::new();
    let (first, _) = (scene.submit(put("a", "1")), scene.submit(put("a", "2")));
    let id = scene.sent()[0].0;
    scene.table.entries[0].deadline += TIMEOUT;
    scene.tick_after(TIMEOUT);
    scene.refuse(id, &with_info(Code::ResourceExhausted, "QUEUE_FULL"));
    assert_eq!(scene.reason(first), "QUEUE_FULL");
}

#[test]
fn what_is_given_back_ends_with_its_deadline_or_its_caller() {
    let mut scene = Scene::new();
    let (first, second) = (scene.submit(put("a", "1")), scene.submit(get("b")));
    let sent = scene.sent();
    for (id, _) in &sent {
        scene.refuse(*id, &with_info(Code::Unavailable, "SHUTTING_DOWN"));
    }
    scene.table.forget(second);
    scene.tick_after(TIMEOUT);
    assert_eq!(scene.reason(first), "SHUTTING_DOWN");
    scene.end(&End::Silent("over".to_owned()));
    scene.open();
    assert!(scene.sent().is_empty());
    assert_eq!(scene.table.free.len(), scene.table.entries.len());
}

#[test]
fn a_refused_write_is_sent_again_after_the_pause_that_the_router_asks_for() {
    let mut scene = Scene::new();
    let write = scene.submit(put("a", "1"));
    let id = scene.sent()[0].0;
    scene.refuse(id, &with_info(Code::ResourceExhausted, "QUEUE_FULL"));
    scene.tick_after(Duration::from_millis(199));
    assert!(scene.sent().is_empty());
    scene.tick_after(Duration::from_millis(100));
    let id = scene.sent()[0].0;
    scene.answer(id, Answer::Put(v1::PutResponse::default()));
    assert!(matches!(scene.fetch(write), Some(Ok(_))));
}

#[test]
fn a_write_is_not_sent_again_after_a_later_one_to_its_key() {
    let full = with_info(Code::ResourceExhausted, "QUEUE_FULL");
    // The later one is on its way when the earlier one is refused.
    let mut scene = Scene::new();
    let (first, _) = (scene.submit(put("a", "1")), scene.submit(put("a", "2")));
    let id = scene.sent()[0].0;
    scene.refuse(id, &full);
    assert_eq!(scene.reason(first), "QUEUE_FULL");
    // Or it comes while the earlier one pauses.
    let mut scene = Scene::new();
    let first = scene.submit(put("a", "1"));
    let id = scene.sent()[0].0;
    scene.refuse(id, &full);
    assert_eq!(scene.fetch(first), None);
    scene.submit(put("b", "other"));
    assert_eq!(scene.fetch(first), None);
    scene.submit(put("a", "2"));
    assert_eq!(scene.reason(first), "QUEUE_FULL");
    scene.tick_after(Duration::from_secs(1));
    assert_eq!(words(&scene.sent()), ["other", "2"]);
    // Or that one was answered first, and its caller has gone; a router may store it first, too, if
    // the earlier one had to wait.
    let draining = with_info(Code::Unavailable, "SHUTTING_DOWN");
    for (one_by_one, reason) in [
        (true, "QUEUE_FULL"),
        (true, "SHUTTING_DOWN"),
        (false, "SHUTTING_DOWN"),
    ] {
        let mut scene = Scene::new();
        let (first, second) = (scene.submit(put("a", "1")), scene.submit(put("a", "2")));
        let sent = scene.sent();
        scene.answer(sent[1].0, Answer::Put(v1::PutResponse::default()));
        assert!(matches!(scene.fetch(second), Some(Ok(_))));
        if one_by_one {
            let status = if reason == "QUEUE_FULL" {
                &full
            } else {
                &draining
            };
            scene.refuse(sent[0].0, status);
        } else {
            scene.end(&End::Status(draining.clone()));
        }
        assert_eq!(scene.reason(first), reason);
    }
    // Or both are given back together, to pause.
    let mut scene = Scene::new();
    let (first, second) = (scene.submit(put("a", "1")), scene.submit(put("a", "2")));
    scene.sent();
    scene.end(&End::Status(with_info(Code::Unavailable, "SOMETHING")));
    assert_eq!(scene.reason(first), "SOMETHING");
    assert_eq!(scene.fetch(second), None);
}

#[test]
fn tries_end_with_the_last_refusal() {
    let mut scene = Scene::new();
    let write = scene.submit(put("a", "1"));
    for _ in 0..RetryOptions::default().attempts_max {
        let id = scene.sent()[0].0;
        scene.refuse(id, &with_info(Code::Unavailable, "SHARD_UNAVAILABLE"));
        scene.tick_after(Duration::from_millis(800));
    }
    assert_eq!(scene.reason(write), "SHARD_UNAVAILABLE");
}

#[test]
fn without_a_budget_nothing_is_sent_again() {
    let mut scene = Scene::new();
    let options = RetryOptions {
        budget_max: 1,
        budget_share: 0.0,
        ..RetryOptions::default()
    };
    scene.retries = Retries::new(options, 0);
    let (first, second) = (scene.submit(get("a")), scene.submit(get("b")));
    scene.sent();
    scene.end(&broken());
    let over = [scene.fetch(first), scene.fetch(second)];
    assert_eq!(over.iter().filter(|one| one.is_some()).count(), 1);
}

#[test]
fn deadlines_end_calls_with_the_truth_for_where_they_are() {
    let mut scene = Scene::new();
    let sent = scene.submit(put("a", "1"));
    let read = scene.submit(get("b"));
    let ids: Vec<u64> = scene.sent().iter().map(|(id, _)| *id).collect();
    let waiting = scene.submit(put("c", "2"));
    scene.tick_after(TIMEOUT);
    assert!(scene.is_unknown(sent));
    assert_eq!(scene.reason(read), crate::error::NO_ANSWER);
    assert_eq!(scene.reason(waiting), NOT_SENT);
    assert_eq!(scene.table.in_flight, 2, "their answers may still come");
    for id in ids {
        scene.answer(id, Answer::Put(v1::PutResponse::default()));
    }
    assert_eq!(scene.table.in_flight, 0);
    assert_eq!(scene.table.free.len(), scene.table.entries.len());
}

#[test]
fn a_pause_that_outlasts_the_deadline_is_not_begun() {
    let mut scene = Scene::new();
    let write = scene.submit(put("a", "1"));
    let id = scene.sent()[0].0;
    scene.now += TIMEOUT - Duration::from_millis(100);
    scene.refuse(id, &with_info(Code::Unavailable, "SHARD_UNAVAILABLE"));
    assert_eq!(scene.reason(write), "SHARD_UNAVAILABLE");
}

#[test]
fn no_more_are_in_flight_than_was_agreed_even_if_their_callers_gave_up() {
    let mut scene = Scene::new();
    let tickets: Vec<Ticket> = (0..6).map(|_| scene.submit(get("a"))).collect();
    let sent = scene.sent();
    assert_eq!(sent.len(), 4);
    for ticket in &tickets[..5] {
        scene.table.forget(*ticket);
    }
    assert!(scene.sent().is_empty());
    scene.answer(sent[0].0, Answer::Get(v1::GetResponse::default()));
    scene.answer(sent[1].0, Answer::Get(v1::GetResponse::default()));
    assert_eq!(scene.sent().len(), 1, "the fifth was taken back");
}

#[test]
fn an_answer_that_comes_twice_or_to_nobody_changes_nothing() {
    let mut scene = Scene::new();
    let first = scene.submit(get("a"));
    let id = scene.sent()[0].0;
    scene.answer(id, Answer::Get(v1::GetResponse::default()));
    assert!(scene.fetch(first).is_some());
    let second = scene.submit(get("b"));
    scene.sent();
    scene.answer(id, Answer::Get(v1::GetResponse::default()));
    scene.answer(u64::MAX, Answer::Get(v1::GetResponse::default()));
    assert_eq!(
        scene.fetch(second),
        None,
        "it has the same place, and another number"
    );
    assert_eq!(scene.table.in_flight, 1);
}

#[test]
fn only_the_newest_stream_takes_requests_and_only_once_it_is_open() {
    let mut scene = Scene::new();
    let old = scene.stream;
    scene.submit(get("a"));
    let new = scene.table.name_stream();
    let (now, mut out) = (scene.now, VecDeque::new());
    assert!(scene.table.take(new, now, &mut out, Waker::noop()));
    assert!(out.is_empty(), "it is not open yet");
    scene.table.open_stream(new, &mut scene.wake);
    assert!(!scene.table.take(old, now, &mut out, Waker::noop()));
    assert!(scene.table.take(new, now, &mut out, Waker::noop()));
    assert_eq!(out.len(), 1);
    scene.table.close_stream(&mut scene.wake);
    assert!(!scene.table.take(new, now, &mut out, Waker::noop()));
}

#[test]
fn a_closed_table_ends_every_call() {
    let mut scene = Scene::new();
    let sent = scene.submit(put("a", "1"));
    scene.sent();
    let waiting = scene.submit(put("b", "1"));
    scene.table.close(&mut scene.wake);
    assert!(scene.is_unknown(sent));
    assert_eq!(scene.reason(waiting), NOT_SENT);
    let late = scene.table.submit(
        get("c"),
        0,
        scene.now + TIMEOUT,
        Waker::noop(),
        &mut scene.wake,
    );
    assert!(late.is_err());
}

#[test]
fn what_became_of_one_call_says_nothing_about_the_next_in_its_place() {
    let mut scene = Scene::new();
    let (first, second) = (scene.submit(put("a", "1")), scene.submit(put("a", "2")));
    let sent = scene.sent();
    scene.answer(sent[1].0, Answer::Put(v1::PutResponse::default()));
    let refusal = with_info(Code::Unavailable, "SHARD_UNAVAILABLE");
    scene.refuse(sent[0].0, &refusal);
    assert_eq!(scene.reason(first), "SHARD_UNAVAILABLE", "it was overtaken");
    assert!(scene.fetch(second).is_some());
    let next = ["b", "c"].map(|key| scene.submit(put(key, "3")));
    for (id, _) in scene.sent() {
        scene.refuse(id, &refusal);
    }
    assert!(next.iter().all(|ticket| scene.fetch(*ticket).is_none()));
    scene.tick_after(Duration::from_secs(1));
    assert_eq!(words(&scene.sent()), ["3", "3"], "they are sent again");
}
