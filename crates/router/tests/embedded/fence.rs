use std::time::Duration;

use freehold_proto::v1::{self, admin_client::AdminClient};
use freehold_router::RouterSettings;

use crate::fixture::{Fixture, delete, get, key_of_shard, put};

/// What a migration does to the fence: a new epoch and a new stamp.
async fn change_epoch(fixture: &Fixture, shard: &str) {
    let mut schema = fixture.server(shard).connect_schema().await.unwrap();
    schema
        .migrate(&[], freehold_core::SCHEMA_VERSION)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_router_with_an_old_map_loads_it_again_and_nobody_notices() {
    let mut fixture = Fixture::start().await;
    let key = key_of_shard(0, 0);
    for number in 0..20 {
        change_epoch(&fixture, "a").await;
        fixture
            .client
            .put(put(&key, &number.to_string()))
            .await
            .unwrap();
        change_epoch(&fixture, "a").await;
        let read = fixture.client.get(get(&key)).await.unwrap().into_inner();
        assert_eq!(read.entry.unwrap().value, number.to_string());
        change_epoch(&fixture, "a").await;
        assert!(
            fixture
                .client
                .delete(delete(&key))
                .await
                .unwrap()
                .into_inner()
                .existed
        );
    }
}

#[tokio::test]
async fn an_explanation_shows_no_row_of_an_old_map() {
    // Nothing but the fence tells it.
    let mut fixture = Fixture::with_settings(RouterSettings {
        map_poll: Duration::from_secs(600),
        ..RouterSettings::default()
    })
    .await;
    let key = key_of_shard(0, 0);
    fixture.client.put(put(&key, "v")).await.unwrap();
    change_epoch(&fixture, "a").await;
    let address = format!("http://{}", fixture.admin);
    let mut admin = AdminClient::connect(address).await.unwrap();
    let request = v1::ExplainRequest {
        key: key.clone().into(),
    };
    let explained = admin.explain(request).await.unwrap().into_inner();
    assert_eq!(explained.row_error, "");
    assert!(explained.row.unwrap().live);
    let turned_away = fixture.metric("turned_away_total{shard=\"a\"}").await;
    assert_eq!(turned_away, 1, "the fence had changed");
}

#[tokio::test]
async fn a_drained_router_ends_and_what_it_acknowledged_is_there() {
    let mut fixture = Fixture::start().await;
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..50 {
        let mut client = fixture.client.clone();
        writers.spawn(async move {
            client
                .put(put(&format!("k{number}"), "v"))
                .await
                .map(|_| format!("k{number}"))
        });
    }
    let acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    let address = fixture.address;
    for key in &acknowledged {
        assert!(
            fixture
                .client
                .get(get(key))
                .await
                .unwrap()
                .into_inner()
                .entry
                .is_some()
        );
    }
    fixture.stop().await;
    assert!(
        tokio::net::TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}
