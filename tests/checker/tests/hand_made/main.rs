//! Histories made by hand, each legal or illegal for one reason. Times are milliseconds. Here the order
//! of a key's operations; beside it [`endings`] of requests, and [`reads`]: weak ones, walks, and the
//! audit.

mod endings;
mod reads;

use freehold_checker::history::{History, MS};
use freehold_checker::linearize::Bounds;
use freehold_checker::record::{Action, Level, Operation, Outcome, Record, Scan, Seen, Span};
use freehold_checker::verdict::{Limits, Verdict, check, check_within};

/// An operation of client 1 on `k`, from one millisecond to another.
fn op(from: i64, to: i64, action: Action, outcome: Outcome) -> Operation {
    Operation {
        id: 0,
        client: 1,
        key: "k".to_owned(),
        start_ns: from * MS,
        end_ns: to * MS,
        deadline_ns: None,
        action,
        outcome,
        level: Level::Strong,
        by_replica: false,
        staleness_ms: None,
        via: String::new(),
        status: String::new(),
        words: String::new(),
    }
}

fn put(from: i64, to: i64, value: &str) -> Operation {
    put_for(from, to, value, None)
}

fn put_for(from: i64, to: i64, value: &str, ttl_ms: Option<i64>) -> Operation {
    let value = value.to_owned();
    op(from, to, Action::Put { value, ttl_ms }, Outcome::Applied)
}

fn delete(from: i64, to: i64, existed: bool) -> Operation {
    let existed = Some(existed);
    op(from, to, Action::Delete { existed }, Outcome::Applied)
}

fn expire(from: i64, to: i64, ttl_ms: i64, existed: bool) -> Operation {
    let (ttl_ms, existed) = (Some(ttl_ms), Some(existed));
    op(
        from,
        to,
        Action::Expire { ttl_ms, existed },
        Outcome::Applied,
    )
}

fn get(from: i64, to: i64, value: Option<&str>) -> Operation {
    let seen = Some(Seen {
        live: value.is_some(),
        value: value.map(str::to_owned),
        ttl_ms: None,
    });
    op(from, to, Action::Get { seen }, Outcome::Applied)
}

fn get_ttl(from: i64, to: i64, value: &str, left_ms: i64) -> Operation {
    let mut get = get(from, to, Some(value));
    if let Action::Get { seen: Some(seen) } = &mut get.action {
        seen.ttl_ms = Some(left_ms);
    }
    get
}

fn ended(mut operation: Operation, outcome: Outcome) -> Operation {
    operation.outcome = outcome;
    match &mut operation.action {
        Action::Delete { existed } | Action::Expire { existed, .. } => *existed = None,
        _ => {}
    }
    operation
}

fn unknown(operation: Operation) -> Operation {
    ended(operation, Outcome::Unknown)
}

fn at_level(mut operation: Operation, level: Level) -> Operation {
    operation.level = level;
    operation
}

fn history(operations: Vec<Operation>, more: Vec<Record>) -> History {
    let numbered = (0..)
        .zip(operations)
        .map(|(id, operation)| Record::Operation(Operation { id, ..operation }));
    History::new(numbered.chain(more))
}

fn fault(from: i64, to: i64, what: &str) -> Record {
    Record::Fault(span(from, to, what))
}

fn span(from: i64, to: i64, what: &str) -> Span {
    Span {
        start_ns: from * MS,
        end_ns: to * MS,
        what: what.to_owned(),
    }
}

fn scan(from: i64, to: i64, rows: &[(&str, &str)]) -> Record {
    let rows = rows.iter();
    Record::Scan(Scan {
        id: 99,
        start_ns: from * MS,
        end_ns: to * MS,
        deadline_ns: None,
        prefix: "k".to_owned(),
        is_complete: true,
        level: Level::Strong,
        rows: rows
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        status: String::new(),
    })
}

fn verdict(operations: Vec<Operation>) -> Verdict {
    check(&history(operations, Vec::new()))
}

#[track_caller]
fn legal(operations: Vec<Operation>) {
    let verdict = verdict(operations);
    assert!(verdict.is_clean(), "{verdict}");
}

#[track_caller]
fn illegal(words: &str, operations: Vec<Operation>) {
    let verdict = verdict(operations);
    let found = verdict.violations.iter();
    assert!(
        found
            .clone()
            .any(|violation| violation.message.contains(words)),
        "{words:?} is not in: {verdict}"
    );
}

const NO_ORDER: &str = "no order explains this";

#[test]
fn one_after_another() {
    legal(vec![
        get(0, 1, None),
        put(2, 3, "a"),
        get(4, 5, Some("a")),
        put(6, 7, "b"),
        get(8, 9, Some("b")),
        delete(10, 11, true),
        get(12, 13, None),
        delete(14, 15, false),
    ]);
}

#[test]
fn an_acknowledged_write_is_read() {
    illegal(NO_ORDER, vec![put(0, 1, "a"), get(2, 3, None)]);
    illegal(
        NO_ORDER,
        vec![put(0, 1, "a"), put(2, 3, "b"), get(4, 5, Some("a"))],
    );
    illegal(
        NO_ORDER,
        vec![put(0, 1, "a"), delete(2, 3, true), get(4, 5, Some("a"))],
    );
}

#[test]
fn concurrent_operations_have_any_order() {
    for seen in [None, Some("a"), Some("b")] {
        legal(vec![put(0, 10, "a"), put(1, 11, "b"), get(2, 9, seen)]);
    }
    for last in ["a", "b"] {
        legal(vec![
            put(0, 10, "a"),
            put(1, 11, "b"),
            get(12, 13, Some(last)),
        ]);
    }
    // A read decides the order for the next.
    illegal(
        NO_ORDER,
        vec![
            put(0, 10, "a"),
            put(1, 11, "b"),
            get(12, 13, Some("a")),
            get(14, 15, Some("b")),
        ],
    );
    // Two readers see two writes in two orders.
    illegal(
        NO_ORDER,
        vec![
            put(0, 100, "a"),
            put(0, 100, "b"),
            get(10, 20, Some("a")),
            get(30, 40, Some("b")),
            get(50, 60, Some("a")),
        ],
    );
    // New value, then the old one, while the write is still under way.
    illegal(
        NO_ORDER,
        vec![
            put(0, 1, "a"),
            put(2, 20, "b"),
            get(4, 5, Some("b")),
            get(6, 7, Some("a")),
        ],
    );
}

#[test]
fn an_unknown_outcome_is_open_to_the_end() {
    for seen in ["a", "b"] {
        legal(vec![
            put(0, 1, "a"),
            unknown(put(2, 3, "b")),
            get(10, 11, Some(seen)),
        ]);
    }
    // It may happen after reads that did not show it.
    legal(vec![
        put(0, 1, "a"),
        unknown(put(2, 3, "b")),
        get(10, 11, Some("a")),
        get(12, 13, Some("b")),
    ]);
    // But once only: a blind repeat undoes what came between.
    illegal(
        NO_ORDER,
        vec![
            put(0, 1, "a"),
            unknown(put(2, 3, "b")),
            get(4, 5, Some("b")),
            put(6, 7, "c"),
            get(8, 9, Some("b")),
        ],
    );
    legal(vec![
        put(0, 1, "a"),
        unknown(delete(2, 3, true)),
        get(9, 10, None),
    ]);
    illegal(
        NO_ORDER,
        vec![
            put(0, 1, "a"),
            unknown(delete(2, 3, true)),
            put(4, 5, "b"),
            get(6, 7, None),
            get(8, 9, Some("b")),
        ],
    );
}

#[test]
fn what_was_not_applied_is_not_there() {
    illegal(
        "said not to be applied",
        vec![
            ended(put(0, 1, "a"), Outcome::NotApplied),
            get(2, 3, Some("a")),
        ],
    );
    legal(vec![
        ended(put(0, 1, "a"), Outcome::NotApplied),
        get(2, 3, None),
    ]);
}

#[test]
fn an_answer_is_of_its_own_key() {
    let mut other = put(0, 1, "b");
    other.key = "other".to_owned();
    illegal(
        "was written to \"other\"",
        vec![put(0, 1, "a"), other, get(2, 3, Some("b"))],
    );
    illegal(
        "before it was written",
        vec![get(0, 1, Some("a")), put(2, 3, "a")],
    );
}

#[test]
fn a_delete_says_what_was_there() {
    illegal(NO_ORDER, vec![put(0, 1, "a"), delete(2, 3, false)]);
    illegal(NO_ORDER, vec![delete(2, 3, true)]);
    legal(vec![put(0, 10, "a"), delete(5, 6, true), get(11, 12, None)]);
    legal(vec![
        put(0, 10, "a"),
        delete(5, 6, false),
        get(11, 12, Some("a")),
    ]);
    illegal(
        NO_ORDER,
        vec![put(0, 10, "a"), delete(5, 6, true), get(11, 12, Some("a"))],
    );
}

#[test]
fn expired_means_gone() {
    let short = put_for(0, 10, "a", Some(50));
    legal(vec![
        short.clone(),
        get(20, 30, Some("a")),
        get(70, 71, None),
    ]);
    illegal(NO_ORDER, vec![short.clone(), get(70, 71, Some("a"))]);
    // It is not gone before its time either.
    illegal(NO_ORDER, vec![short.clone(), get(20, 30, None)]);
    // In between both may be, but not gone and back.
    legal(vec![
        short.clone(),
        get(50, 52, Some("a")),
        get(54, 56, None),
    ]);
    illegal(
        NO_ORDER,
        vec![short.clone(), get(50, 51, None), get(55, 56, Some("a"))],
    );
    // A new value is not bound by the old one's life.
    legal(vec![
        short.clone(),
        put(20, 21, "b"),
        get(90, 91, Some("b")),
    ]);
    illegal(
        NO_ORDER,
        vec![short.clone(), put(20, 21, "b"), get(90, 91, None)],
    );
    // A write of unknown outcome lives from whenever it happens.
    legal(vec![unknown(short), get(900, 901, Some("a"))]);
}

#[test]
fn expire_changes_the_life_of_what_lives() {
    legal(vec![
        put(0, 1, "a"),
        expire(2, 3, 50, true),
        get(40, 41, Some("a")),
        get(70, 71, None),
    ]);
    illegal(
        NO_ORDER,
        vec![
            put(0, 1, "a"),
            expire(2, 3, 50, true),
            get(70, 71, Some("a")),
        ],
    );
    illegal(NO_ORDER, vec![put(0, 1, "a"), expire(2, 3, 50, false)]);
    // An expire of what has expired revives nothing.
    illegal(
        NO_ORDER,
        vec![
            put_for(0, 1, "a", Some(20)),
            get(40, 41, None),
            expire(42, 43, 500, true),
        ],
    );
    legal(vec![
        put_for(0, 1, "a", Some(20)),
        expire(42, 43, 500, false),
        get(50, 51, None),
    ]);
    // An unknown one may have lengthened it.
    let longer = unknown(expire(2, 3, 500, true));
    for seen in [Some("a"), None] {
        legal(vec![
            put_for(0, 1, "a", Some(50)),
            longer.clone(),
            get(300, 301, seen),
        ]);
    }
    illegal(
        NO_ORDER,
        vec![
            put_for(0, 1, "a", Some(50)),
            longer,
            get(100, 101, None),
            get(300, 301, Some("a")),
        ],
    );
}

#[test]
fn the_time_to_live_that_is_told_is_true() {
    let long = put_for(0, 10, "a", Some(1_000));
    legal(vec![long.clone(), get_ttl(100, 101, "a", 903)]);
    illegal(NO_ORDER, vec![long.clone(), get_ttl(100, 101, "a", 990)]);
    illegal(NO_ORDER, vec![long, get_ttl(100, 101, "a", -1)]);
    legal(vec![put(0, 1, "a"), get_ttl(100, 101, "a", -1)]);
    illegal(NO_ORDER, vec![put(0, 1, "a"), get_ttl(100, 101, "a", 500)]);
}

#[test]
fn a_search_that_meets_its_bound_is_undecided() {
    // Twenty writes at once, of which nothing is seen: all orders are possible.
    let mut all: Vec<Operation> = (0..20)
        .map(|number| put(0, 100, &number.to_string()))
        .collect();
    all.push(get(200, 201, None));
    let limits = Limits {
        search: Bounds {
            steps_max: 10_000,
            configurations_max: 1_000,
        },
        ..Limits::default()
    };
    let verdict = check_within(&history(all, Vec::new()), &limits);
    assert_eq!(verdict.undecided, ["k"]);
    assert!(!verdict.is_clean());
    assert!(verdict.to_string().contains("UNDECIDED"));
}

#[test]
fn what_is_printed_is_short_and_says_how_to_repeat_it() {
    let mut all = Vec::new();
    for number in 0..100 {
        let time = number * 10;
        all.push(put(time, time + 1, &number.to_string()));
        all.push(get(time + 2, time + 3, Some(&number.to_string())));
    }
    all.push(get(1_100, 1_101, Some("98")));
    let mut history = history(all, Vec::new());
    history.run.seed = 77;
    history.run.command = "torture --seed 77".to_owned();
    let verdict = check(&history);
    let text = verdict.to_string();
    assert!(text.contains("torture --seed 77"), "{text}");
    let proof = &verdict.violations[0].operations;
    assert_eq!(proof.len(), 3, "{text}");
    let page = freehold_checker::timeline::html(&history, &verdict.violations[0]);
    assert!(page.contains("stroke=red") && page.contains("torture --seed 77"));
}
