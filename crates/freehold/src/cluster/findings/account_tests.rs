//! What is found of accounts and their rights.

use freehold_storage::{Refusal, StorageError, schema::SchemaState};

use super::{
    tests::{judge_all, master, only, ready, seen, server},
    *,
};
use crate::cluster::survey::Watched;

#[test]
fn rights_that_are_missing_are_granted_and_roles_are_not_guessed_at() {
    let mut servers = master(&[]);
    seen(&mut servers[0]).facts.grants = vec![
        "GRANT USAGE ON *.* TO `u`@`%`".into(),
        "GRANT SELECT ON `db`.* TO `u`@`%`".into(),
    ];
    let finding = only(&servers, "the account's rights");
    assert_eq!(
        finding.mend,
        [
            "GRANT INSERT, UPDATE, DELETE ON `db`.`store` TO `u`@`%`;",
            "GRANT INSERT, UPDATE ON `db`.`moved_keys` TO `u`@`%`;",
            "GRANT EXECUTE ON PROCEDURE `db`.`write_logged` TO `u`@`%`;",
            "GRANT UPDATE ON `db`.`heartbeat` TO `u`@`%`;",
        ]
    );
    seen(&mut servers[0])
        .facts
        .grants
        .push("GRANT `role`@`%` TO `u`@`%`".into());
    let finding = only(&servers, "the account's rights");
    assert_eq!(finding.severity, Severity::Advice);
    assert!(finding.why.contains("not looked at"), "{finding:?}");
}

#[test]
fn rights_that_adopting_needs_are_missed_where_there_is_somebody_to_promote() {
    let requests = "GRANT SELECT, INSERT, UPDATE, DELETE ON `db`.`store` TO `u`@`%`";
    let rest = "GRANT EXECUTE ON `db`.* TO `u`@`%`";
    let more = [
        "GRANT SELECT ON `db`.`shard` TO `u`@`%`",
        "GRANT SELECT ON `db`.`slots` TO `u`@`%`",
        "GRANT SELECT ON `db`.`terms` TO `u`@`%`",
        "GRANT SELECT, INSERT, UPDATE ON `db`.`moved_keys` TO `u`@`%`",
        "GRANT SELECT, UPDATE ON `db`.`heartbeat` TO `u`@`%`",
        "GRANT SELECT ON `db`.`numbers` TO `u`@`%`",
    ];
    let few: Vec<String> = [requests, rest]
        .into_iter()
        .chain(more)
        .map(Into::into)
        .collect();
    let mut servers = vec![
        server("a", Role::Master, "MySQL", &[]),
        server("a", Role::Replica, "MySQL", &[]),
    ];
    let adopting = [
        "GRANT UPDATE (`epoch`, `server_id`, `stamp`, `term`) ON `db`.`shard` TO `u`@`%`",
        "GRANT UPDATE (`attempt`, `since_epoch`) ON `db`.`slots` TO `u`@`%`",
        "GRANT SELECT, INSERT, DELETE ON `db`.`terms` TO `u`@`%`",
        "GRANT SELECT ON `performance_schema`.* TO `u`@`%`",
    ];
    seen(&mut servers[0]).facts.grants = few.clone();
    let finding = only(&servers, "the account's rights after a failover");
    assert_eq!(finding.severity, Severity::Warning);
    assert_eq!(
        finding.mend[..3],
        [
            "GRANT UPDATE (term, epoch, server_id, stamp) ON `db`.`shard` TO `u`@`%`;",
            "GRANT UPDATE (attempt, since_epoch) ON `db`.`slots` TO `u`@`%`;",
            "GRANT INSERT, DELETE ON `db`.`terms` TO `u`@`%`;",
        ]
    );
    let enough = few.iter().cloned().chain(adopting.map(Into::into));
    seen(&mut servers[0]).facts.grants = enough.collect();
    assert_eq!(judge_all(&servers), []);
    // Nobody can be promoted.
    servers.pop();
    seen(&mut servers[0]).facts.grants = few;
    assert_eq!(judge_all(&servers), []);
}

#[test]
fn rights_over_read_only_are_found_on_a_replica() {
    let mut servers = [
        server("a", Role::Master, "MySQL", &[]),
        server("a", Role::Replica, "MySQL", &[]),
    ];
    let all = "GRANT ALL PRIVILEGES ON *.* TO `root`@`%`".to_owned();
    servers
        .iter_mut()
        .for_each(|server| seen(server).facts.grants = vec![all.clone()]);
    let finding = only(&servers, "the account's rights");
    assert_eq!(
        (finding.role, finding.severity),
        (Role::Replica, Severity::Warning)
    );
    assert_eq!(
        finding.mend[0],
        "REVOKE ALL PRIVILEGES ON *.* FROM `root`@`%`;"
    );
    let wanted = Wanted {
        own_account: false,
        ..Wanted::default()
    };
    assert_eq!(findings(&servers, &wanted), []);
}

/// A server as an account finds it that has these rights besides those on the database.
fn watched(role: Role, engine: &str, seen: Result<Option<u64>, StorageError>) -> Surveyed {
    Surveyed {
        watched: Some(Ok(Watched {
            grants: vec!["GRANT SELECT, DELETE, UPDATE ON `db`.* TO `s`@`%`".into()],
            seen,
        })),
        ..server("a", role, engine, &[])
    }
}

fn denied() -> StorageError {
    StorageError::Refused {
        refusal: Refusal::Denied,
        code: 1227,
        message: "access denied".into(),
    }
}

#[test]
fn an_account_that_cannot_sweep_is_found() {
    let mut servers = [watched(Role::Master, "MySQL", Ok(Some(0)))];
    assert_eq!(judge_all(&servers), []);
    // The rights of a router alone.
    let requests = "GRANT SELECT, INSERT, UPDATE, DELETE ON `db`.`store` TO `u`@`%`";
    let reads = "GRANT SELECT ON `db`.`shard` TO `u`@`%`";
    let slots = "GRANT SELECT ON `db`.`slots` TO `u`@`%`";
    servers[0].watched = Some(Ok(Watched {
        grants: [requests, reads, slots].map(Into::into).to_vec(),
        seen: Ok(Some(0)),
    }));
    let finding = only(&servers, "the sweeper's account");
    assert_eq!(finding.severity, Severity::Error);
    assert!(!finding.stops_init());
    assert_eq!(
        finding.mend[0],
        "GRANT SELECT, UPDATE ON `db`.`leases` TO `u`@`%`;"
    );
    // There is nothing to give rights on yet.
    seen(&mut servers[0]).state = SchemaState::Absent;
    only(&servers, "tables");
    servers[0].watched = Some(Err(denied()));
    seen(&mut servers[0]).state = ready("a", 7, 0..=65_535);
    assert!(
        only(&servers, "the sweeper's account")
            .found
            .contains("access denied")
    );
}

#[test]
fn what_a_sweeper_cannot_see_is_found_with_the_right_that_shows_it() {
    let finding = only(
        &[watched(Role::Master, "MySQL", Err(denied()))],
        "the sweeper's account",
    );
    assert_eq!(finding.severity, Severity::Advice);
    assert_eq!(finding.mend, ["GRANT PROCESS ON *.* TO `s`@`%`;"]);
    for (engine, right) in [
        ("MySQL", "REPLICATION CLIENT"),
        ("MariaDB", "REPLICA MONITOR"),
    ] {
        let pair = |seen| {
            [
                watched(Role::Master, engine, Ok(None)),
                watched(Role::Replica, engine, seen),
            ]
        };
        let finding = only(&pair(Err(denied())), "the sweeper's account");
        assert_eq!(finding.severity, Severity::Error);
        assert_eq!(finding.mend, [format!("GRANT {right} ON *.* TO `s`@`%`;")]);
        for lag_ms in [None, Some(5_001)] {
            let finding = only(&pair(Ok(lag_ms)), "replication");
            assert_eq!(finding.severity, Severity::Warning);
            assert!(finding.why.starts_with("Sweeping of the shard stops"));
        }
        assert_eq!(judge_all(&pair(Ok(Some(5_000)))), []);
    }
}
