use super::*;

/// What a reader of two parts makes of an input: batches of each part, and events.
fn read(input: &[u8]) -> (Vec<Vec<Batch>>, Vec<Event>) {
    let (queues, batches): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel(1_000)).unzip();
    let (events, happened) = mpsc::channel(1_000);
    Reader::new(queues, events, CancellationToken::new(), false).run(input);
    (batches.into_iter().map(drain).collect(), drain(happened))
}

fn drain<T>(mut receiver: mpsc::Receiver<T>) -> Vec<T> {
    std::iter::from_fn(|| receiver.blocking_recv()).collect()
}

#[test]
fn lines_are_counted_from_1_with_blank_and_bad_ones() {
    let input = b"{\"key\":\"a\",\"value\":\"1\"}\n\n  \nbad\n{\"key\":\"b\",\"value\":\"2\"}";
    let (parts, events) = read(input);
    let mut lines: Vec<u64> = parts
        .iter()
        .flatten()
        .flat_map(|batch| &batch.items)
        .map(|item| item.line)
        .collect();
    lines.sort_unstable();
    assert_eq!(lines, [1, 5]);
    assert!(matches!(
        &events[..],
        [Event::Failed { lines, outcome: Outcome::Bad, .. }, Event::Read(4)] if *lines == [4]
    ));
}

#[test]
fn lines_of_one_key_keep_their_order_and_never_share_a_batch() {
    let line = b"{\"key\":\"a\",\"value\":\"1\"}\n";
    let (parts, _) = read(&line.repeat(3));
    let part = parts.iter().find(|batches| !batches.is_empty()).unwrap();
    let lines: Vec<Vec<u64>> = part
        .iter()
        .map(|batch| batch.items.iter().map(|item| item.line).collect())
        .collect();
    assert_eq!(lines, [[1], [2], [3]]);
}

#[test]
fn batches_are_bounded_by_keys_and_bytes_and_account_for_every_byte_read() {
    let large = "x".repeat(BATCH_BYTES_MAX / 3);
    let mut input = String::new();
    for number in 0..2_000 {
        input.push_str(&format!("{{\"key\":\"{number}\",\"value\":\"\"}}\n"));
    }
    for number in 0..20 {
        input.push_str(&format!(
            "{{\"key\":\"large{number}\",\"value\":\"{large}\"}}\n"
        ));
    }
    let (parts, events) = read(input.as_bytes());
    assert!(events.is_empty());
    let batches: Vec<Batch> = parts.into_iter().flatten().collect();
    assert!(
        batches
            .iter()
            .all(|batch| batch.items.len() <= BATCH_KEYS_MAX)
    );
    assert!(batches.iter().all(|batch| batch.bytes <= BATCH_BYTES_MAX));
    assert_eq!(
        batches.iter().map(|batch| batch.items.len()).sum::<usize>(),
        2_020
    );
    assert_eq!(
        batches.iter().map(|batch| batch.input_bytes).sum::<u64>(),
        input.len() as u64
    );
}
