use std::time::Duration;

use freehold_proto::v1::{self, key_value_client::KeyValueClient};
use tonic::transport::Channel;

use crate::fixture::{Fixture, delete, get, milliseconds, put};

#[tokio::test]
async fn what_was_put_is_read_back_until_it_is_deleted() {
    let mut fixture = Fixture::start().await;
    let stored = fixture
        .client
        .put(put("k", "v"))
        .await
        .unwrap()
        .into_inner();
    let read = fixture.client.get(get("k")).await.unwrap().into_inner();
    let entry = read.entry.unwrap();
    assert_eq!(
        (&entry.value[..], entry.version, entry.ttl),
        (&b"v"[..], stored.version, None)
    );
    let served = read.served.unwrap();
    assert_eq!(served.source(), v1::Source::Master);
    assert!(
        fixture
            .client
            .delete(delete("k"))
            .await
            .unwrap()
            .into_inner()
            .existed
    );
    assert!(
        !fixture
            .client
            .delete(delete("k"))
            .await
            .unwrap()
            .into_inner()
            .existed
    );
    assert_eq!(
        fixture
            .client
            .get(get("k"))
            .await
            .unwrap()
            .into_inner()
            .entry,
        None
    );
    fixture.stop().await;
}

#[tokio::test]
async fn an_expired_key_is_gone_and_persist_keeps_one() {
    let mut fixture = Fixture::start().await;
    for key in ["short", "kept"] {
        let request = v1::PutRequest {
            ttl: Some(milliseconds(300)),
            ..put(key, "")
        };
        fixture.client.put(request).await.unwrap();
    }
    let persist = v1::ExpireRequest {
        key: "kept".into(),
        ttl: None,
    };
    assert!(
        fixture
            .client
            .expire(persist)
            .await
            .unwrap()
            .into_inner()
            .existed
    );
    let ttl = v1::TtlRequest {
        key: "kept".into(),
        read: None,
    };
    let kept = fixture.client.ttl(ttl).await.unwrap().into_inner();
    assert_eq!((kept.found, kept.ttl), (true, None));
    let is_there = async |client: &mut KeyValueClient<Channel>| {
        let ttl = v1::TtlRequest {
            key: "short".into(),
            read: None,
        };
        client.ttl(ttl).await.unwrap().into_inner().found
    };
    while is_there(&mut fixture.client).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let expire = v1::ExpireRequest {
        key: "short".into(),
        ttl: Some(milliseconds(9_000)),
    };
    assert!(
        !fixture
            .client
            .expire(expire)
            .await
            .unwrap()
            .into_inner()
            .existed
    );
    assert!(
        fixture
            .client
            .get(get("kept"))
            .await
            .unwrap()
            .into_inner()
            .entry
            .is_some()
    );
}

#[tokio::test]
async fn explain_shows_the_way_from_hash_to_row() {
    let mut fixture = Fixture::start().await;
    fixture.client.put(put("{user:1}:cart", "v")).await.unwrap();
    let mut admin = v1::admin_client::AdminClient::connect(format!("http://{}", fixture.admin))
        .await
        .unwrap();
    let request = v1::ExplainRequest {
        key: "{user:1}:cart".into(),
    };
    let explained = admin.explain(request).await.unwrap().into_inner();
    assert_eq!(
        (explained.slot, &explained.tag[..]),
        (15_191, &b"user:1"[..])
    );
    assert_eq!(
        (explained.shard.as_str(), explained.slot_state.as_str()),
        ("a", "owned")
    );
    let row = explained.row.unwrap();
    assert_eq!((row.live, row.value_bytes), (true, 1));
    let shards = admin
        .list_shards(v1::ListShardsRequest {})
        .await
        .unwrap()
        .into_inner()
        .shards;
    assert_eq!(
        shards.iter().map(|shard| shard.slots_owned).sum::<u32>(),
        65_536
    );
}
