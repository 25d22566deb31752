//! Tokens of writes that a failover lost, and of those that survived it.

use freehold_client::{Consistency, Error};
use freehold_core::token::merge;
use freehold_tests::{Engine, Router, Server, Shard, replication};

use crate::scene::{Result, client, until_replicas_follow};

/// Makes a replica the master of the next term, as adoption does: the fence names it, and `terms`
/// says where the term before ended.
async fn adopt(server: &Server) -> Result<()> {
    let (position, open) = match server.engine() {
        Engine::MariaDb => ("@@global.gtid_slave_pos", "SET GLOBAL read_only = OFF"),
        Engine::MySql => (
            "@@global.gtid_executed",
            "SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF",
        ),
    };
    replication::stop(server).await?;
    let mut sql = server.connect().await?;
    sql.run(open).await?;
    sql.run(&format!(
        "SET @ended = {position}; START TRANSACTION; \
         INSERT INTO terms (term, server_id, position) SELECT term, server_id, @ended FROM shard; \
         UPDATE shard SET server_id = @@server_id, term = term + 1, epoch = epoch + 1, \
         stamp = stamp + 1; COMMIT"
    ))
    .await?;
    Ok(())
}

async fn a_token_from_a_lost_tail_is_refused_and_one_that_survived_is_not(
    engine: Engine,
) -> Result<()> {
    let master = Server::of(engine).await?;
    let [heir, other] = replication::start_two_replicas(&master).await?;
    let shard = Shard::new("a", &master, &[&heir, &other]);
    let router = Router::init_and_serve(&[shard], "").await?;
    until_replicas_follow(&router, 2).await?;
    let before = client(&router).await?;
    let survived = before.put("survived", "1").await?.session_token;
    let untouched = before.delete("nothing").await?;
    assert!(!untouched.existed);
    replication::wait_until_caught_up(&master, &heir).await?;
    replication::stop(&heir).await?;
    let lost = before.put("lost", "1").await?.session_token;
    drop((before, router));
    drop(master);
    adopt(&heir).await?;
    replication::receive_from(&other, heir.port()).await?;

    let shard = Shard::new("a", &heir, &[&other]);
    let mut router = Router::configure(&[shard], "")?;
    router.serve().await?;
    let after = client(&router).await?;
    let read = |key: &'static str, token: &bytes::Bytes| {
        let level = Consistency::Session(token.clone());
        after.get(key).consistency(level)
    };
    for _ in 0..20 {
        let reply = read("survived", &survived).await?;
        assert_eq!(reply.value().map(|value| &value[..]), Some(&b"1"[..]));
        read("nothing", &untouched.session_token).await?;
        for token in [&lost, &[&survived[..], &lost[..]].concat().into()] {
            match read("lost", token).await {
                Err(Error::Refused { reason, .. }) => assert_eq!(reason, "SESSION_LOST"),
                answer => panic!("{answer:?}"),
            }
        }
    }
    let again = after.put("lost", "2").await?.session_token;
    let reply = read("lost", &again).await?;
    assert_eq!(reply.value().map(|value| &value[..]), Some(&b"2"[..]));
    // Whoever wrote in both terms hears of what was lost in the first.
    match read("lost", &merge(&lost, &again).into()).await {
        Err(Error::Refused { reason, .. }) => assert_eq!(reason, "SESSION_LOST"),
        answer => panic!("{answer:?}"),
    }
    read("survived", &merge(&survived, &again).into()).await?;
    Ok(())
}

/// The promoted server dies before anybody copied its adoption, and the next one counts from the same
/// number: a token of the first one's term is of no write that is there.
async fn a_token_of_a_term_that_was_lost_whole_is_refused(engine: Engine) -> Result<()> {
    let master = Server::of(engine).await?;
    let [first, second] = replication::start_two_replicas(&master).await?;
    let router =
        Router::init_and_serve(&[Shard::new("a", &master, &[&first, &second])], "").await?;
    let survived = client(&router).await?.put("survived", "1").await?;
    for replica in [&first, &second] {
        replication::wait_until_caught_up(&master, replica).await?;
        replication::stop(replica).await?;
    }
    drop((router, master));
    adopt(&first).await?;
    let mut lost_term = Router::configure(&[Shard::new("a", &first, &[])], "")?;
    lost_term.serve().await?;
    let lost = client(&lost_term).await?.put("lost", "1").await?;
    drop((lost_term, first));
    adopt(&second).await?;

    let mut router = Router::configure(&[Shard::new("a", &second, &[])], "")?;
    router.serve().await?;
    let after = client(&router).await?;
    // Beyond where the lost write was, by its number alone.
    for _ in 0..10 {
        after.put("new", "1").await?;
    }
    let new = after.put("new", "2").await?;
    let read = |key: &'static str, token: &bytes::Bytes| {
        let level = Consistency::Session(token.clone());
        after.get(key).consistency(level)
    };
    match read("lost", &lost.session_token).await {
        Err(Error::Refused { reason, .. }) => assert_eq!(reason, "SESSION_LOST"),
        answer => panic!("{answer:?}"),
    }
    for (key, write, value) in [("survived", &survived, "1"), ("new", &new, "2")] {
        let reply = read(key, &write.session_token).await?;
        assert_eq!(reply.value(), Some(&value.into()));
    }
    Ok(())
}

on_servers!(
    a_token_from_a_lost_tail_is_refused_and_one_that_survived_is_not,
    a_token_of_a_term_that_was_lost_whole_is_refused,
);
