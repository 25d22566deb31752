//! Weak reads, sessions, walks, and the rows of the audit.

use freehold_checker::record::Row;

use super::*;

#[test]
fn weak_reads_may_be_old_within_their_bound() {
    let writes = [put(0, 1, "a"), put(10, 11, "b")];
    let read = |level: Level, seen| {
        let mut all = writes.to_vec();
        all.push(at_level(get(50, 51, seen), level));
        all
    };
    let bounded = |max_staleness_ms| Level::Bounded { max_staleness_ms };
    legal(read(Level::Eventual, Some("a")));
    legal(read(Level::Eventual, None));
    illegal("never written", read(Level::Eventual, Some("c")));
    legal(read(bounded(45), Some("a")));
    illegal("older than 30 ms", read(bounded(30), Some("a")));
    illegal("older than 30 ms", read(bounded(30), None));
    legal(read(bounded(0), Some("b")));
    // The answer's own bound binds it, too.
    let mut told = read(Level::Eventual, Some("a"));
    told[2].staleness_ms = Some(20);
    illegal("older than 20 ms", told);
    illegal(
        "had expired",
        vec![
            put_for(0, 1, "a", Some(50)),
            at_level(get(90, 91, Some("a")), Level::Eventual),
        ],
    );
}

#[test]
fn a_strong_read_is_a_masters() {
    let mut read = get(2, 3, Some("a"));
    read.by_replica = true;
    illegal("answered by a replica", vec![put(0, 1, "a"), read.clone()]);
    legal(vec![put(0, 1, "a"), at_level(read, Level::Eventual)]);
}

#[test]
fn a_session_sees_its_own_writes() {
    let session = |token_of, seen| {
        let level = Level::Session {
            token_of: Some(token_of),
        };
        vec![
            put(0, 1, "a"),
            put(10, 11, "b"),
            put(20, 21, "c"),
            at_level(get(50, 51, seen), level),
        ]
    };
    legal(session(1, Some("b")));
    legal(session(1, Some("c")));
    illegal("the session does not see", session(1, Some("a")));
    illegal("the session does not see", session(1, None));
    // What it has read it does not unread.
    let after_read = |seen| {
        let level = Level::Session { token_of: Some(2) };
        let first = at_level(get(20, 21, Some("b")), Level::Eventual);
        vec![
            put(0, 1, "a"),
            put(10, 11, "b"),
            first,
            at_level(get(50, 51, seen), level),
        ]
    };
    legal(after_read(Some("b")));
    illegal("the session does not see", after_read(Some("a")));
    // A life that was changed leaves the value as it was.
    let level = Level::Session { token_of: Some(1) };
    legal(vec![
        put(0, 1, "a"),
        expire(10, 11, 9_000, true),
        at_level(get(50, 51, Some("a")), level),
    ]);
}

#[test]
fn a_scan_shows_each_key_that_lives_exactly_once() {
    let check = |operations: Vec<Operation>, rows: &[(&str, &str)]| {
        check(&history(operations, vec![scan(10, 20, rows)]))
    };
    let writes = vec![put(0, 1, "a")];
    assert!(check(writes.clone(), &[("k", "a")]).is_clean());
    let said = |verdict: Verdict| verdict.to_string();
    assert!(said(check(writes.clone(), &[])).contains("was not shown"));
    assert!(said(check(writes.clone(), &[("k", "a"), ("k", "a")])).contains("twice"));
    assert!(said(check(writes.clone(), &[("k", "b")])).contains("never written"));
    let both = vec![put(0, 1, "a"), put(2, 3, "b")];
    assert!(said(check(both, &[("k", "a")])).contains("had been replaced before"));
    // What is deleted or expires meanwhile may be missing.
    for end in [delete(15, 16, true), unknown(delete(2, 3, true))] {
        assert!(check(vec![put(0, 1, "a"), end], &[]).is_clean());
    }
    // What had expired before may not be shown; what expires meanwhile may.
    let lives_for = |ttl_ms| vec![put_for(0, 1, "a", Some(ttl_ms))];
    assert!(said(check(lives_for(2), &[("k", "a")])).contains("had expired"));
    assert!(check(lives_for(12), &[("k", "a")]).is_clean());
}

#[test]
fn the_audit_is_the_last_read() {
    // "z" stands for a master that does not own the key's slot.
    let audited = |operations: Vec<Operation>, rows: &[(&str, &str, bool)]| {
        let rows = rows.iter().map(|(shard, value, live)| {
            Record::Row(Row {
                shard: (*shard).to_owned(),
                key: "k".to_owned(),
                value: (*value).to_owned(),
                live: *live,
                owned: *shard != "z",
            })
        });
        let audit = Span {
            start_ns: 100 * MS,
            end_ns: 110 * MS,
            what: String::new(),
        };
        let more = rows.chain([Record::Audit(audit)]).collect();
        check(&history(operations, more)).to_string()
    };
    let clean = |text: &str| text.ends_with("clean\n");
    assert!(clean(&audited(vec![put(0, 1, "a")], &[("x", "a", true)])));
    assert!(audited(vec![put(0, 1, "a")], &[]).contains("the audit"));
    assert!(
        audited(vec![put(0, 1, "a")], &[("x", "a", true), ("y", "a", true)])
            .contains("more than one master")
    );
    // Even a dead row is on one master only.
    assert!(
        audited(vec![put(0, 1, "a")], &[("x", "a", true), ("y", "a", false)])
            .contains("more than one master")
    );
    // What lies where nobody looks is no answer, and must not live there; a dead row may wait there.
    let stray = audited(vec![put(0, 1, "a")], &[("z", "a", true)]);
    assert!(
        stray.contains("does not own its slot") && stray.contains(NO_ORDER),
        "{stray}"
    );
    let former = [("z", "a", true), ("x", "", false)];
    let deleted = vec![put(0, 1, "a"), delete(2, 3, true)];
    let stray = audited(deleted.clone(), &former);
    assert!(
        stray.contains("does not own its slot") && !stray.contains(NO_ORDER),
        "{stray}"
    );
    assert!(clean(&audited(deleted.clone(), &[("z", "", false)])));
    assert!(clean(&audited(deleted.clone(), &[("x", "", false)])));
    assert!(audited(deleted, &[("x", "a", true)]).contains(NO_ORDER));
    let expired = vec![put_for(0, 1, "a", Some(20))];
    assert!(audited(expired, &[("x", "a", true)]).contains(NO_ORDER));
    assert!(audited(vec![get(0, 1, None)], &[("x", "z", true)]).contains(NO_ORDER));
}
