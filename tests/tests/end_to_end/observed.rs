//! What a router shows of itself: metrics, `/healthz`, `grpc.health.v1`.

use std::time::Duration;

use freehold_proto::v1::{self, admin_client::AdminClient};
use freehold_tests::{Engine, Router};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    scene::{Cluster, Result, keys_of, until},
    wire,
};

/// Every family of `/metrics` but a few, with its type. Dashboards and alarms build on them. (Absent
/// are `freehold_sweeper_pause_seconds`, which is there only once the sweeper has deleted a batch,
/// and what is counted by the results of moves and audits.)
const FAMILIES: [(&str, &str); 31] = [
    ("freehold_requests", "counter"),
    ("freehold_operation_seconds", "histogram"),
    ("freehold_statement_seconds", "histogram"),
    ("freehold_statement_rows", "histogram"),
    ("freehold_statement_errors", "counter"),
    ("freehold_errors", "counter"),
    ("freehold_turned_away", "counter"),
    ("freehold_queued_requests", "gauge"),
    ("freehold_connections", "gauge"),
    ("freehold_connections_open", "gauge"),
    ("freehold_server_usable", "gauge"),
    ("freehold_server_alarm", "gauge"),
    ("freehold_limit_level", "gauge"),
    ("freehold_limit_max", "gauge"),
    ("freehold_limit_refusals", "counter"),
    ("freehold_slots_owned", "gauge"),
    ("freehold_sweeper_rows_deleted", "counter"),
    ("freehold_sweeper_batches", "counter"),
    ("freehold_sweeper_batch_duration_seconds", "histogram"),
    ("freehold_sweeper_oldest_expired_row_age_seconds", "gauge"),
    ("freehold_sweeper_rows_due", "gauge"),
    ("freehold_sweeper_lease_held", "gauge"),
    ("freehold_sweeper_waiting", "gauge"),
    ("freehold_sweeper_errors", "counter"),
    ("freehold_mover_running", "gauge"),
    ("freehold_mover_abandoned", "gauge"),
    ("freehold_mover_stopped", "gauge"),
    ("freehold_mover_picked_up", "counter"),
    ("freehold_mover_slots", "counter"),
    ("freehold_mover_rows", "counter"),
    ("freehold_mover_pause_seconds", "histogram"),
];

async fn metrics_have_every_family_and_count_what_was_asked(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, "").await?;
    let mut stub = wire::stub(&cluster.router).await?;
    let put = |key: &str| v1::PutRequest {
        key: key.to_owned().into(),
        value: "v".into(),
        ttl: None,
    };
    for key in keys_of(0, 2, "m").take(30) {
        stub.put(put(&key)).await?;
        let (key, read) = (key.into(), None);
        stub.get(v1::GetRequest { key, read }).await?;
    }
    assert!(stub.put(put("")).await.is_err());
    refused_unread(&cluster.router).await?;
    // A family without a label set yet is not shown: an error makes the last one appear.
    cluster.masters[1]
        .connect()
        .await?
        .run("RENAME TABLE store TO elsewhere")
        .await?;
    let lost = keys_of(1, 2, "m").next().ok_or("endless")?;
    assert!(stub.put(put(&lost)).await.is_err());
    // What only the holder of a lease knows is there once the sweeper has looked.
    let due = "freehold_sweeper_rows_due{shard=";
    until("the sweeper's first look", async || {
        Ok(cluster.router.http_get("/metrics").await?.1.contains(due))
    })
    .await?;
    let (status, metrics) = cluster.router.http_get("/metrics").await?;
    assert_eq!(status, 200);
    let server = format!("127.0.0.1:{}", cluster.masters[0].port());
    for (family, kind) in FAMILIES {
        let declared = format!("# TYPE {family} {kind}\n");
        assert!(
            metrics.contains(&declared),
            "{declared} is missing in\n{metrics}"
        );
    }
    for line in [
        r#"freehold_requests_total{method="Put",shard="a",code="OK"} 30"#,
        r#"freehold_requests_total{method="Get",shard="a",code="OK"} 30"#,
        r#"freehold_requests_total{method="Put",shard="b",code="FAILED_PRECONDITION"} 1"#,
        // One that the method refused, and one that was too large to be read.
        r#"freehold_requests_total{method="Put",shard="",code="INVALID_ARGUMENT"} 2"#,
        r#"freehold_requests_total{method="unknown",shard="",code="UNIMPLEMENTED"} 1"#,
        r#"freehold_operation_seconds_count{shard="a",operation="put"} 30"#,
        r#"freehold_statement_rows_sum{shard="a",operation="put"} 30.0"#,
        r#"freehold_operation_seconds_count{shard="b",operation="get"} 0"#,
        r#"freehold_errors_total{shard="b",operation="put",reason="SCHEMA"} 1"#,
        r#"freehold_errors_total{shard="",operation="",reason="INVALID"} 1"#,
        r#"freehold_statement_errors_total{shard="b",operation="put",reason="refused"} 1"#,
        r#"freehold_slots_owned{shard="a"} 32768"#,
        &format!(r#"freehold_queued_requests{{shard="a",server="{server}",lane="reads"}} 0"#),
        // Two each for reads, writes and scans.
        &format!(r#"freehold_connections{{shard="a",server="{server}",role="master"}} 6"#),
        &format!(r#"freehold_server_usable{{shard="a",server="{server}",role="master"}} 1"#),
        &format!(r#"freehold_server_alarm{{shard="a",server="{server}",role="master"}} 0"#),
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    Ok(())
}

/// What callers are told is what is counted, once, whatever the database answers afterwards.
async fn every_operation_is_counted_as_its_caller_saw_it_end(engine: Engine) -> Result<()> {
    // The router's limit ends what the frozen master does not, long before the callers' own.
    let small = "[server]\nrequest_timeout_ms = 3000\n[lanes]\nreads = 1\nqueue_keys_max = 128\n";
    let mut cluster = Cluster::of_two(engine, small).await?;
    let mut stub = wire::stub(&cluster.router).await?;
    let keys: Vec<String> = keys_of(0, 2, "m").take(1_000).collect();
    let put = |key: &str, seconds| {
        let mut call = tonic::Request::new(v1::PutRequest {
            key: key.to_owned().into(),
            value: "v".into(),
            ttl: None,
        });
        call.set_timeout(Duration::from_secs(seconds));
        call
    };
    stub.put(put(&keys[0], 30)).await?;

    cluster.masters[0].freeze()?;
    let lost = stub.put(put(&keys[0], 30)).await;
    assert!(lost.is_err_and(|status| status.code() == Code::Unknown));
    let mut many = tonic::Request::new(v1::BatchGetRequest {
        keys: keys.iter().map(|key| key.clone().into()).collect(),
        read: None,
    });
    many.set_timeout(Duration::from_secs(30));
    let results = stub.batch_get(many).await?.into_inner().results;
    assert_eq!(results.len(), keys.len());
    cluster.masters[0].thaw()?;
    stub.put(put(&keys[0], 30)).await?;

    let (_, metrics) = cluster.router.http_get("/metrics").await?;
    let counted = |name: &str, labels: &str| {
        let start = format!("freehold_{name}{{shard=\"a\",{labels}}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or(0, |count| count.parse::<u64>().expect("a count"))
    };
    let errors = |operation: &str, reason: &str| {
        let labels = format!(r#"operation="{operation}",reason="{reason}""#);
        counted("errors_total", &labels)
    };
    assert_eq!(errors("put", "OUTCOME_UNKNOWN"), 1, "{metrics}");
    assert_eq!(
        counted("operation_seconds_count", r#"operation="put""#),
        3,
        "{metrics}"
    );
    // Of the reads some were on their way or waited, and for the rest there was no room.
    let (full, timed_out) = (errors("get", "QUEUE_FULL"), errors("get", "READ_TIMED_OUT"));
    let unsent = errors("get", "DEADLINE_BEFORE_SENDING");
    assert!(full > 500, "{metrics}");
    assert_eq!(full + timed_out + unsent, 1_000, "{metrics}");
    assert_eq!(
        counted("operation_seconds_count", r#"operation="get""#),
        1_000,
        "{metrics}"
    );
    Ok(())
}

/// Requests that no method sees: a message that is too large, and a method of the other listener.
async fn refused_unread(router: &Router) -> Result<()> {
    let mut stub = wire::stub(router).await?;
    let large = v1::PutRequest {
        key: "k".into(),
        value: vec![0; 20 << 20].into(),
        ttl: None,
    };
    let refused = stub.put(large).await;
    assert!(refused.is_err_and(|status| status.code() == Code::InvalidArgument));
    let mut admin = AdminClient::connect(format!("http://{}", router.address())).await?;
    let refused = admin.list_shards(v1::ListShardsRequest::default()).await;
    assert!(refused.is_err_and(|status| status.code() == Code::Unimplemented));
    Ok(())
}

async fn health_shows_a_shard_that_is_down_and_when_it_is_back(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, "").await?;
    let endpoint = Channel::from_shared(format!("http://{}", cluster.router.address()))?;
    let mut health = HealthClient::new(endpoint.connect().await?);
    for service in ["", "freehold.v1.KeyValue", "shard/a", "shard/b"] {
        until("all to be shown as up", async || {
            Ok(status(&mut health, service).await? == ServingStatus::Serving)
        })
        .await?;
    }
    cluster.masters[1].kill();
    until("shard b to be shown as down", async || {
        Ok(status(&mut health, "shard/b").await? == ServingStatus::NotServing)
    })
    .await?;
    for service in ["", "freehold.v1.KeyValue", "shard/a"] {
        assert_eq!(
            status(&mut health, service).await?,
            ServingStatus::Serving,
            "{service}"
        );
    }
    let (code, page) = cluster.router.http_get("/healthz").await?;
    let page: serde_json::Value = serde_json::from_str(&page)?;
    assert_eq!(code, 200, "the other shard is served: {page}");
    assert_eq!(page["shards"]["a"]["up"], true, "{page}");
    assert_eq!(page["shards"]["b"]["up"], false, "{page}");
    assert_ne!(page["shards"]["b"]["reason"], "", "{page}");
    let server = format!("127.0.0.1:{}", cluster.masters[1].port());
    let labels = format!(r#"{{shard="b",server="{server}",role="master"}}"#);
    until("metrics to show it", async || {
        let (_, metrics) = cluster.router.http_get("/metrics").await?;
        let shows = |gauge: &str| metrics.contains(&format!("freehold_{gauge}{labels} 0\n"));
        Ok(shows("server_usable") && shows("connections_open"))
    })
    .await?;
    let shards = cluster
        .router
        .admin_cli(&["shards", "--json"])
        .await?
        .success()?;
    assert!(shards.contains(r#""usable":false"#), "{shards}");

    cluster.masters[1].start_again().await?;
    until("shard b to be shown as up", async || {
        Ok(status(&mut health, "shard/b").await? == ServingStatus::Serving)
    })
    .await?;
    let stranger = health.check(request("shard/nobody")).await;
    assert!(stranger.is_err_and(|status| status.code() == Code::NotFound));
    Ok(())
}

async fn status(health: &mut HealthClient<Channel>, service: &str) -> Result<ServingStatus> {
    Ok(health.check(request(service)).await?.into_inner().status())
}

fn request(service: &str) -> tonic::Request<HealthCheckRequest> {
    let mut request = tonic::Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    request.set_timeout(Duration::from_secs(10));
    request
}

on_servers!(
    metrics_have_every_family_and_count_what_was_asked,
    every_operation_is_counted_as_its_caller_saw_it_end,
    health_shows_a_shard_that_is_down_and_when_it_is_back,
);
