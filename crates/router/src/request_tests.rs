use bytes::Bytes;
use freehold_core::Key;
use freehold_storage::{Row, Value};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::sync::mpsc;

use super::*;
use crate::metrics::Metrics;

#[test]
fn an_answer_that_there_is_no_room_for_is_counted_as_its_caller_saw_it() {
    let mut registry = Registry::default();
    let operations = Metrics::register(&mut registry).operations("a");
    let (channel, mut answered) = mpsc::channel(2);
    let budget = Arc::new(AnswerBudget::new(10));
    let answers = Arc::new(Answers { channel, budget });
    for id in 0..2 {
        let reply = Reply::Numbered {
            id,
            answers: answers.clone(),
        };
        let (get, now) = (Operation::Get(Key::new("k").unwrap()), Instant::now());
        let mut request = Request::new(get, Level::Strong, now, now, reply);
        request.counted_by = Some(operations.clone());
        request.end(Ok(Answer::Read(ReadAnswer {
            row: Some(Row {
                version: 1,
                ttl_ms: None,
                value: Value::Bytes(Bytes::from_static(b"12345678")),
            }),
            shard: "a".into(),
            from_replica: false,
            staleness: None,
            room: None,
        })));
    }
    let endings = [answered.try_recv().unwrap(), answered.try_recv().unwrap()];
    assert!(endings[0].ending.is_ok());
    assert!(matches!(endings[1].ending, Err(Failure::AskAgain)));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("errors_total{"))
        .collect();
    assert_eq!(
        errors,
        [r#"errors_total{shard="a",operation="get",reason="ASK_AGAIN"} 1"#]
    );
}
