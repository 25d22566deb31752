//! Where the config says so, nobody leads before an operator says so.

use freehold_tests::Engine;

use super::site::{Copies, Site, shards_json, until_served};
use crate::scene::{NAMES, Result, keys_of, until};

async fn a_promoted_server_waits_for_freehold_adopt(engine: Engine) -> Result<()> {
    let more = "[failover]\nadopt = \"manual\"\n";
    let mut site = Site::new(engine, Copies::Later, more).await?;
    let clients = site.clients().await?;
    let key = keys_of(0, 2, "by-hand").next().expect("endless");
    clients[0].put(key.clone(), "before").await?;

    // There is nothing to adopt while the first one leads.
    let refused = site.routers[0].admin_cli(&["adopt", "a"]).await?;
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("there is nothing to adopt"),
        "{refused:?}"
    );
    let unknown = site.routers[0].admin_cli(&["adopt", "z"]).await?;
    assert!(
        unknown.stderr.contains("no shard is called 'z'"),
        "{unknown:?}"
    );

    site.shards[0][0].kill();
    let refused = site.routers[0].admin_cli(&["adopt", "a"]).await?;
    assert_ne!(refused.code, Some(0), "nobody was promoted: {refused:?}");

    site.promote_second(0).await?;
    for router in &site.routers {
        let mut shown = String::new();
        until("the shard to say what it waits for", async || {
            shown = shards_json(router).await?[0].to_string();
            Ok(shown.contains("waits for `freehold adopt`"))
        })
        .await
        .map_err(|error| format!("{error}, but it shows {shown}\n{}", router.log()))?;
    }
    let put = clients[1].put(key.clone(), "too early").await;
    assert!(put.is_err(), "{put:?}");
    let mut sql = site.shards[0][1].connect().await?;
    assert_eq!(sql.one::<u64>("SELECT term FROM shard").await?, 1);

    let adopted = site.routers[0].admin_cli(&["adopt", "a", "--json"]).await?;
    let adopted: serde_json::Value = serde_json::from_str(&adopted.success()?)?;
    assert!(
        adopted.to_string().contains(&site.address(0, 1)),
        "{adopted}"
    );
    until_served(&clients, &key).await?;
    let fence: (u64, u64) = sql.one("SELECT term, server_id FROM shard").await?;
    assert_eq!(fence, (2, site.shards[0][1].port().into()));
    assert_eq!(sql.one::<u64>("SELECT COUNT(*) FROM terms").await?, 1);

    // Once is enough, through whichever router.
    let again = site.routers[1].admin_cli(&["adopt", "a"]).await?;
    assert!(
        again.stderr.contains("there is nothing to adopt"),
        "{again:?}"
    );

    // The config goes on calling the first one the master; nobody shall open it for that.
    site.rebuild(0, 0).await?;
    let said = site.routers[0].with_config(&["doctor", "--json"]).await?;
    let said: serde_json::Value = serde_json::from_str(&said.stdout)?;
    let findings = said["findings"].as_array().ok_or("findings")?;
    let of_master = findings.iter().find(|found| found["what"] == "the master");
    let of_master = of_master.ok_or_else(|| format!("{said}"))?;
    assert_eq!(of_master["server"], site.address(0, 0));
    let mends = findings.iter().flat_map(|found| found["mend"].as_array());
    let mends: Vec<String> = mends.flatten().map(ToString::to_string).collect();
    let opens = |mend: &&String| mend.contains("read_only =") || mend.contains("START REPLICA");
    assert_eq!(mends.iter().find(opens), None, "{said}");
    Ok(())
}

/// No first server of a shard answers, so nothing but what is left says which cluster this is.
async fn routers_that_never_saw_a_master_adopt_whom_they_are_told(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, "").await?;
    for router in &mut site.routers {
        router.kill();
    }
    for shard in 0..2 {
        site.shards[shard][0].kill();
        site.promote_second(shard).await?;
    }
    for router in &mut site.routers {
        router.launch()?;
    }
    for name in &NAMES[..2] {
        let mut said = String::new();
        until("the promoted server to be adopted", async || {
            let adopted = site.routers[0].admin_cli(&["adopt", name]).await?;
            said = adopted.stderr;
            Ok(adopted.code == Some(0) || said.contains("nothing to adopt"))
        })
        .await
        .map_err(|error| format!("{error}, but it says {said}"))?;
    }
    let clients = site.clients().await?;
    for shard in 0..2 {
        let key = keys_of(shard, 2, "by-hand").next().expect("endless");
        until_served(&clients, &key).await?;
    }
    Ok(())
}

on_servers!(
    a_promoted_server_waits_for_freehold_adopt,
    routers_that_never_saw_a_master_adopt_whom_they_are_told,
);
