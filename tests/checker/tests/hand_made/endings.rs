//! How requests end, and what excuses it.

use freehold_checker::record::Clock;
use freehold_checker::verdict::Check;

use super::*;

#[test]
fn requests_end_in_time_and_with_a_status_of_the_table() {
    let with = |end: i64, status: &str, outcome| {
        let mut one = op(0, end, Action::Delete { existed: None }, outcome);
        one.deadline_ns = Some(50 * MS);
        one.status = status.to_owned();
        one
    };
    legal(vec![with(140, "", Outcome::Applied)]);
    illegal("ended 110 ms after", vec![with(160, "", Outcome::Applied)]);
    legal(vec![with(
        1,
        "UNAVAILABLE SHARD_UNAVAILABLE",
        Outcome::NotApplied,
    )]);
    legal(vec![with(1, "UNKNOWN OUTCOME_UNKNOWN", Outcome::Unknown)]);
    legal(vec![with(1, "CANCELLED", Outcome::Unknown)]);
    illegal(
        "no status of the table",
        vec![with(1, "ABORTED X", Outcome::NotApplied)],
    );
    illegal(
        "no status of the table",
        vec![with(1, "NOT_FOUND", Outcome::Unknown)],
    );
    illegal(
        "no status of the table",
        vec![with(1, "UNKNOWN OTHER", Outcome::NotApplied)],
    );
    // A machine that stood still is not the product's fault.
    let pause = Record::Pause(span(20, 90, ""));
    let found = check(&history(vec![with(160, "", Outcome::Applied)], vec![pause]));
    assert!(found.is_clean(), "{found}");
    assert_eq!((found.endings.late, found.endings.excused), (0, 1));
}

#[test]
fn a_valid_request_is_refused_only_for_what_was_broken() {
    let refused = |status: &str, more: Vec<Record>| {
        let action = Action::Put {
            value: "a".to_owned(),
            ttl_ms: None,
        };
        let mut one = op(10, 20, action, Outcome::NotApplied);
        one.status = status.to_owned();
        check(&history(vec![one], more)).to_string()
    };
    for never in [
        "INVALID_ARGUMENT INVALID",
        "UNIMPLEMENTED UNIMPLEMENTED",
        "FAILED_PRECONDITION SCHEMA",
        "FAILED_PRECONDITION MISCONFIGURED",
        "FAILED_PRECONDITION DATABASE_DENIED",
        "UNAVAILABLE QUEUE_FULL",
    ] {
        let text = refused(
            never,
            vec![fault(0, 5, "master 0: Killed and replaced, back open")],
        );
        assert!(text.contains("no status of the table"), "{never}: {text}");
    }
    for (status, cause) in [
        (
            "FAILED_PRECONDITION SESSION_LOST",
            "master 0: Killed and replaced, back open",
        ),
        ("UNAVAILABLE DATABASE_READ_ONLY", "master 1: ReadOnly"),
        (
            "UNAVAILABLE DATABASE_FULL",
            "replica 1 of 0: its disk is full",
        ),
    ] {
        let other = fault(0, 5, "router 0: Kill");
        let later = fault(21, 25, cause);
        let text = refused(status, vec![other, later]);
        assert!(text.contains("no fault before it"), "{status}: {text}");
        let text = refused(status, vec![fault(0, 5, cause)]);
        assert!(text.ends_with("clean\n"), "{status}: {text}");
    }
}

#[test]
fn routers_that_do_not_answer_are_found() {
    let reads = |count: i64, silent: i64, more: Vec<Record>| {
        let one = |number: i64| {
            let from = 10_000 + number * 10;
            let mut one = get(from, from + 5, None);
            one.deadline_ns = Some((from + 5) * MS);
            if number < silent {
                one.status = "CANCELLED".to_owned();
                one.outcome = Outcome::Unknown;
                one.action = Action::Get { seen: None };
            }
            one
        };
        check(&history((0..count).map(one).collect(), more))
    };
    let found = reads(1_000, 20, Vec::new());
    assert_eq!(
        (found.endings.unanswered, found.endings.undisturbed),
        (20, 1_000)
    );
    let text = found.to_string();
    assert!(
        text.contains("VIOLATION (endings)") && text.contains("without a word"),
        "{text}"
    );
    assert_eq!(found.violations[0].check, Check::Endings);
    // Too few, or too small a share.
    assert!(reads(1_000, 19, Vec::new()).is_clean());
    assert!(reads(2_500, 25, Vec::new()).is_clean());
    assert!(!reads(2_400, 25, Vec::new()).is_clean());
    // Something stood between the two, or a moment ago; or this machine did not listen.
    for excuse in [
        fault(0, 20_000, "router 0: Freeze"),
        fault(0, 9_500, "network of clients to router 1: KeepReplies"),
        Record::Pause(span(9_900, 10_400, "this machine stood still")),
    ] {
        let found = reads(1_000, 20, vec![excuse]);
        assert!(found.is_clean(), "{found}");
        assert_eq!((found.endings.unanswered, found.endings.silenced), (0, 20));
    }
    // What is broken behind a router does not keep it from answering.
    for none in [
        fault(0, 20_000, "master 0: Freeze"),
        fault(0, 20_000, "network of router 0 to master 0: KeepAll"),
        fault(0, 8_000, "router 0: Kill"),
    ] {
        assert!(!reads(1_000, 20, vec![none]).is_clean());
    }
    // A reason is a word, but not the client's own.
    let with = |status: &str| {
        let mut silent = get(0, 1, None);
        silent.deadline_ns = Some(MS);
        silent.status = status.to_owned();
        silent.action = Action::Get { seen: None };
        check(&history(vec![silent; 20], Vec::new()))
    };
    assert!(with("UNAVAILABLE SHARD_UNAVAILABLE").is_clean());
    assert!(!with("UNAVAILABLE NOT_SENT").is_clean());
    assert!(!with("UNKNOWN").is_clean());
}

#[test]
fn clocks_that_drift_by_themselves_leave_expiry_undecided() {
    let look = |at: i64, database_ms: i64| {
        Record::Clock(Clock {
            server: "x".to_owned(),
            before_ns: at * MS,
            after_ns: at * MS,
            database_ms,
        })
    };
    let with = |drift: i64, more: Vec<Record>| {
        let looks = [look(0, 1_000), look(500, 1_500 + drift)];
        check(&history(
            vec![put(0, 1, "a")],
            looks.into_iter().chain(more).collect(),
        ))
    };
    assert!(with(150, Vec::new()).is_clean());
    let drifted = with(250, Vec::new());
    assert!(!drifted.is_clean() && drifted.to_string().contains("UNDECIDED"));
    let stepped = fault(0, 400, "master 0: its clock is +3600 s ahead");
    assert!(with(3_600_000, vec![stepped]).is_clean());
}

#[test]
fn a_scan_ends_in_time_and_with_a_status_of_the_table_too() {
    let ended = |to: i64, status: &str| {
        let Record::Scan(mut one) = scan(10, to, &[]) else {
            unreachable!("a scan");
        };
        one.is_complete = false;
        one.deadline_ns = Some(50 * MS);
        one.status = status.to_owned();
        check(&history(Vec::new(), vec![Record::Scan(one)]))
    };
    let well = ended(40, "UNAVAILABLE SHARD_UNAVAILABLE");
    assert!(well.is_clean(), "{well}");
    assert_eq!((well.scans, well.scans_complete), (1, 0));
    assert!(ended(160, "").to_string().contains("ended 110 ms after"));
    let refused = ended(40, "INVALID_ARGUMENT INVALID").to_string();
    assert!(refused.contains("no status of the table"), "{refused}");
}
