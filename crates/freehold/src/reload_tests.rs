use super::*;

fn parsed(text: &str) -> Config {
    let none = std::collections::HashMap::new();
    config::parse("test".to_owned(), Some(text), none).unwrap()
}

#[test]
fn what_cannot_change_is_named_with_both_values_and_what_can_is_not() {
    let before = parsed("[server]\nlisten = \"127.0.0.1:1\"\n[lanes]\nreads = 2");
    assert_eq!(fixed(&before, &before), []);
    let next = parsed(
        "[server]\nlisten = \"127.0.0.1:9\"\n[lanes]\nreads = 3\n[sweeper]\nenabled = false\n\
         [mover]\nenabled = false\n[[shards]]\nname = \"a\"\nmaster = \"mysql://u:secret@h/d\"",
    );
    let problems: Vec<String> = fixed(&before, &next)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    let told = problems.join("\n");
    for part in [
        "server.listen",
        "127.0.0.1:1",
        "127.0.0.1:9",
        "lanes.reads: 2",
        "restart",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("secret"));
}

#[test]
fn servers_of_other_shards_and_clusters_are_strangers() {
    let identity = ShardIdentity {
        name: "c".to_owned(),
        cluster_id: 7,
        schema_version: 1,
    };
    assert_eq!(stranger(&identity, "c", Some(7)), None);
    assert_eq!(stranger(&identity, "c", None), None);
    assert!(
        stranger(&identity, "c", Some(8))
            .unwrap()
            .contains("0000000000000007")
    );
    assert!(stranger(&identity, "d", Some(7)).unwrap().contains("'c'"));
}
