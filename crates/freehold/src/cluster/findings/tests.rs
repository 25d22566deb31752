use std::{collections::BTreeMap, ops::RangeInclusive};

use freehold_core::{SCHEMA_VERSION, ShardIdentity};
use freehold_storage::{StorageError, schema::SchemaState};

use super::*;

const WELL: [(&str, &str); 12] = [
    ("binlog_format", "ROW"),
    ("binlog_row_image", "NOBLOB"),
    ("default_storage_engine", "InnoDB"),
    ("innodb_flush_log_at_trx_commit", "1"),
    ("log_bin", "ON"),
    ("max_allowed_packet", "67108864"),
    ("max_connections", "500"),
    ("max_prepared_stmt_count", "16382"),
    ("read_only", "OFF"),
    ("sync_binlog", "1"),
    ("system_time_zone", "UTC"),
    ("time_zone", "SYSTEM"),
];

pub(super) fn server(shard: &str, role: Role, engine: &str, changes: &[(&str, &str)]) -> Surveyed {
    let mut variables: BTreeMap<String, String> = WELL
        .iter()
        .chain(changes)
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    if role == Role::Replica {
        variables.insert("read_only".into(), "ON".into());
        variables.insert("super_read_only".into(), "ON".into());
        variables.extend(
            changes
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into())),
        );
    }
    let facts = ServerFacts {
        engine: engine.into(),
        server_id: if role == Role::Master { 1 } else { 2 },
        variables,
        grants: vec![
            "GRANT REPLICATION CLIENT ON *.* TO `u`@`%`".into(),
            "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON `db`.* TO `u`@`%`".into(),
            "GRANT SELECT ON `performance_schema`.* TO `u`@`%`".into(),
        ],
        ..ServerFacts::default()
    };
    Surveyed {
        shard: shard.into(),
        role,
        may_lead: true,
        succeeded_by: None,
        address: format!("{shard}-{}:3306", role.word()),
        database: Some("db".into()),
        seen: Ok(Seen {
            facts,
            state: ready(shard, 7, 0..=65_535),
        }),
        watched: None,
        moved: None,
    }
}

pub(super) fn ready(name: &str, cluster_id: u64, share: RangeInclusive<u16>) -> SchemaState {
    let name = name.to_owned();
    SchemaState::Ready {
        identity: ShardIdentity {
            name,
            cluster_id,
            schema_version: SCHEMA_VERSION,
        },
        slots_claimed: share.len(),
        claimed: vec![share],
    }
}

pub(super) fn seen(server: &mut Surveyed) -> &mut Seen {
    server.seen.as_mut().unwrap()
}

pub(super) fn judge_all(servers: &[Surveyed]) -> Vec<Finding> {
    findings(servers, &Wanted::default())
}

/// The finding about `what`, alone.
pub(super) fn only(servers: &[Surveyed], what: &str) -> Finding {
    let mut findings = judge_all(servers);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    let finding = findings.remove(0);
    assert_eq!(finding.what, what);
    finding
}

pub(super) fn master(changes: &[(&str, &str)]) -> Vec<Surveyed> {
    vec![server("a", Role::Master, "MariaDB", changes)]
}

#[test]
fn semi_synchronous_replication_that_falls_back_promises_nothing() {
    let problems = |timeout, wait_point| {
        let changes = [
            ("rpl_semi_sync_source_enabled", "ON"),
            ("rpl_semi_sync_source_timeout", timeout),
            ("rpl_semi_sync_source_wait_point", wait_point),
        ];
        judge_all(&master(&changes)).len()
    };
    assert_eq!(problems("1000000000", "AFTER_SYNC"), 0);
    assert_eq!(problems("10000", "AFTER_SYNC"), 1);
    assert_eq!(problems("10000", "AFTER_COMMIT"), 2);
    for name in [
        "rpl_semi_sync_master_wait_no_slave",
        "rpl_semi_sync_source_wait_no_replica",
    ] {
        let enabled = name.replace("wait_no_slave", "enabled");
        let enabled = enabled.replace("wait_no_replica", "enabled");
        let found = judge_all(&master(&[(&enabled, "ON"), (name, "OFF")]));
        assert_eq!(found[0].what, name);
    }
}

#[test]
fn a_leader_of_mariadb_does_not_take_itself_for_a_replica_after_a_crash() {
    let setting = [("rpl_semi_sync_slave_enabled", "ON")];
    assert_eq!(judge_all(&master(&setting))[0].what, setting[0].0);
    let replica = server("a", Role::Replica, "MariaDB", &setting);
    let servers = [master(&[]), vec![replica]].concat();
    let found = judge_all(&servers);
    assert!(found.iter().all(|finding| finding.what != setting[0].0));
}

#[test]
fn a_group_member_that_was_thrown_out_goes_quiet() {
    let problems = |action| {
        let changes = [
            ("group_replication_group_name", "aaaa"),
            ("group_replication_exit_state_action", action),
        ];
        judge_all(&master(&changes)).len()
    };
    assert_eq!(problems("OFFLINE_MODE"), 0);
    assert_eq!(problems("READ_ONLY"), 1);
}

#[test]
fn a_server_that_is_set_well_has_no_findings() {
    for engine in ["MariaDB", "MySQL"] {
        let servers = [
            server("a", Role::Master, engine, &[]),
            server("a", Role::Replica, engine, &[]),
        ];
        assert_eq!(judge_all(&servers), []);
    }
}

#[test]
fn what_init_must_refuse_is_an_error_with_the_statement_that_mends_it() {
    for (name, value, statement) in [
        (
            "binlog_format",
            "MIXED",
            "SET GLOBAL binlog_format = 'ROW';",
        ),
        (
            "binlog_format",
            "STATEMENT",
            "SET GLOBAL binlog_format = 'ROW';",
        ),
        (
            "default_storage_engine",
            "MyISAM",
            "SET GLOBAL default_storage_engine = 'InnoDB';",
        ),
        ("read_only", "ON", "SET GLOBAL read_only = OFF;"),
        (
            "max_allowed_packet",
            "1048576",
            "SET GLOBAL max_allowed_packet = 5242880;",
        ),
    ] {
        let finding = only(&master(&[(name, value)]), name);
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.stops_init());
        assert_eq!(finding.mend[0], statement);
        assert!(finding.mend[1].starts_with(&format!("my.cnf, [mysqld]: {name} = ")));
    }
}

#[test]
fn mysql_keeps_a_setting_by_itself() {
    let servers = [server("a", Role::Master, "MySQL", &[("sync_binlog", "0")])];
    let finding = only(&servers, "sync_binlog");
    assert_eq!(
        (finding.severity, finding.stops_init()),
        (Severity::Warning, false)
    );
    assert_eq!(finding.mend, ["SET PERSIST sync_binlog = 1;"]);
}

#[test]
fn the_packet_is_judged_against_the_value_limit() {
    let wanted = |mib: u64| Wanted {
        value_bytes_max: mib << 20,
        ..Wanted::default()
    };
    let servers = master(&[("max_allowed_packet", "16777216")]);
    assert_eq!(findings(&servers, &wanted(15)), []);
    let servers = master(&[("max_allowed_packet", "8388608")]);
    assert_eq!(findings(&servers, &wanted(7)), []);
    assert_eq!(findings(&servers, &wanted(8))[0].what, "max_allowed_packet");
}

#[test]
fn connections_and_statements_are_counted_for_all_routers() {
    let servers = master(&[("max_connections", "151")]);
    assert_eq!(judge_all(&servers), []);
    let wanted = Wanted {
        routers: 100,
        ..Wanted::default()
    };
    let found = findings(&servers, &wanted);
    let names: Vec<&str> = found.iter().map(|finding| &*finding.what).collect();
    // 100 × (6 + 4) + 20, and 100 × (2 × 26 + 2 × 24 + 2 × 2) = 10,400 of 16,382.
    assert_eq!(names, ["max_connections"]);
    assert_eq!(found[0].mend[0], "SET GLOBAL max_connections = 1020;");
}

#[test]
fn a_replica_that_may_be_promoted_has_room_for_a_masters_connections() {
    let mut servers = master(&[]);
    let few = [("max_connections", "28")];
    servers.push(server("a", Role::Replica, "MariaDB", &few));
    let limits = |servers: &[Surveyed]| -> Vec<String> {
        let found = judge_all(servers).into_iter();
        let names = found.map(|finding| finding.what);
        names.filter(|what| what == "max_connections").collect()
    };
    // (4 + 4) + 20 as a replica, and two more connections for writes as a master.
    assert_eq!(limits(&servers), ["max_connections"]);
    servers[1].may_lead = false;
    assert!(limits(&servers).is_empty());
}

#[test]
fn a_clock_is_judged_by_what_the_round_trip_cannot_explain() {
    let skewed = |skew_ms, error_ms| {
        let mut servers = master(&[]);
        let facts = &mut seen(&mut servers[0]).facts;
        (facts.clock_skew_ms, facts.clock_error_ms) = (skew_ms, error_ms);
        servers
    };
    assert_eq!(judge_all(&skewed(900, 0)), []);
    assert_eq!(
        only(&skewed(-3_000, 10), "the clock").severity,
        Severity::Warning
    );
    assert_eq!(
        only(&skewed(6_000, 10), "the clock").severity,
        Severity::Error
    );
    assert_eq!(judge_all(&skewed(6_000, 5_500)), []);
}

#[test]
fn two_servers_apart_are_found_even_if_each_is_near_this_machine() {
    let mut servers = [
        server("a", Role::Master, "MariaDB", &[]),
        server("b", Role::Master, "MariaDB", &[]),
    ];
    seen(&mut servers[0]).facts.clock_skew_ms = -3_000;
    seen(&mut servers[1]).facts.clock_skew_ms = 3_000;
    seen(&mut servers[0]).state = ready("a", 7, 0..=32_767);
    seen(&mut servers[1]).state = ready("b", 7, 32_768..=65_535);
    let found = judge_all(&servers);
    assert_eq!(found.len(), 2);
    assert!(
        found
            .iter()
            .all(|finding| finding.severity == Severity::Error)
    );
}

#[test]
fn a_replica_is_closed_for_writing_and_another_server_than_its_master() {
    let pair = |replica| [server("a", Role::Master, "MariaDB", &[]), replica];
    let open = server("a", Role::Replica, "MariaDB", &[("read_only", "OFF")]);
    assert_eq!(only(&pair(open), "read_only").severity, Severity::Warning);

    let mut same_number = server("a", Role::Replica, "MariaDB", &[]);
    seen(&mut same_number).facts.server_id = 1;
    assert_eq!(
        only(&pair(same_number), "server_id").severity,
        Severity::Error
    );

    let mut replicas = [
        server("a", Role::Replica, "MariaDB", &[]),
        server("a", Role::Replica, "MariaDB", &[]),
    ];
    let [first, mut second] = replicas.clone();
    second.address = "a-replica2:3306".into();
    let servers = [server("a", Role::Master, "MariaDB", &[]), first, second];
    assert!(only(&servers, "server_id").found.contains("a-replica:3306"));
    // Another shard's servers never meet these.
    replicas[0].shard = "b".into();
    seen(&mut replicas[0]).state = ready("b", 7, 0..=65_535);
    assert_eq!(judge_all(&replicas), []);

    let uuid = [("server_uuid", "u")];
    let servers = [
        server("a", Role::Master, "MySQL", &uuid),
        server("a", Role::Replica, "MySQL", &uuid),
    ];
    assert_eq!(only(&servers, "the replica").severity, Severity::Error);
}

#[test]
fn tables_are_judged_but_do_not_stop_init() {
    let mut servers = master(&[]);
    for (state, found) in [
        (SchemaState::Absent, "missing"),
        (
            SchemaState::Started(ShardIdentity {
                name: "a".into(),
                cluster_id: 7,
                schema_version: 0,
            }),
            "begun",
        ),
        (ready("b", 7, 0..=65_535), "those of shard 'b'"),
    ] {
        seen(&mut servers[0]).state = state;
        let finding = only(&servers, "tables");
        assert_eq!((&*finding.found, finding.stops_init()), (found, false));
    }
    seen(&mut servers[0]).state = ready("a", 7, 0..=65_535);
    seen(&mut servers[0]).facts.key_collation = Some("utf8mb4_general_ci".into());
    assert_eq!(
        only(&servers, "collation of store.key").severity,
        Severity::Error
    );
}

#[test]
fn two_claims_and_two_clusters_are_found() {
    let mut servers = [
        server("a", Role::Master, "MySQL", &[]),
        server("b", Role::Master, "MySQL", &[]),
    ];
    seen(&mut servers[0]).state = ready("a", 7, 0..=40_000);
    seen(&mut servers[1]).state = ready("b", 7, 30_000..=65_535);
    assert!(
        only(&servers, "tables")
            .found
            .starts_with("slots 30000-40000 here and on")
    );
    seen(&mut servers[1]).state = ready("b", 8, 40_001..=65_535);
    assert!(only(&servers, "tables").found.starts_with("of cluster"));
}

#[test]
fn a_replica_whose_threads_cannot_be_seen_is_found() {
    for (engine, right) in [
        ("MySQL", "REPLICATION CLIENT"),
        ("MariaDB", "REPLICA MONITOR"),
    ] {
        let mut servers = [
            server("a", Role::Master, engine, &[]),
            server("a", Role::Replica, engine, &[]),
        ];
        seen(&mut servers[1]).facts.grants.remove(0);
        let finding = only(&servers, "the account's rights");
        assert_eq!(
            (finding.role, finding.severity),
            (Role::Replica, Severity::Warning)
        );
        assert_eq!(finding.mend, [format!("GRANT {right} ON *.* TO `u`@`%`;")]);
    }
}

#[test]
fn a_replica_that_is_down_is_said_to_stop_sweeping() {
    let mut servers = [
        server("a", Role::Master, "MySQL", &[]),
        server("a", Role::Replica, "MySQL", &[]),
    ];
    servers[1].seen = Err(StorageError::Unreachable {
        reason: "connection refused".into(),
    });
    let finding = only(&servers, "the server");
    assert!(finding.why.contains("the shard is not swept"));
}

#[test]
fn a_server_that_does_not_answer_is_an_error_of_its_own() {
    let mut servers = master(&[]);
    servers[0].seen = Err(StorageError::Unreachable {
        reason: "connection refused".into(),
    });
    let finding = only(&servers, "the server");
    assert!(finding.found.contains("connection refused"));
    assert!(finding.stops_init());
}

#[test]
fn the_price_of_a_log_is_advice() {
    let finding = only(
        &master(&[("binlog_annotate_row_events", "ON")]),
        "binlog_annotate_row_events",
    );
    assert_eq!(finding.severity, Severity::Advice);
    let finding = only(&master(&[("binlog_row_image", "FULL")]), "binlog_row_image");
    assert_eq!(finding.severity, Severity::Advice);
    let finding = only(&master(&[("system_time_zone", "CEST")]), "time_zone");
    assert_eq!(finding.severity, Severity::Advice);
    // Without a log nothing else about it matters.
    let finding = only(
        &master(&[("log_bin", "OFF"), ("binlog_row_image", "FULL")]),
        "log_bin",
    );
    assert_eq!(finding.severity, Severity::Warning);
}
