use proptest::prelude::*;

use super::*;

fn mysql(text: &str) -> MysqlTarget {
    match Dsn::parse(text).unwrap().target {
        Target::Mysql(target) => target,
        Target::Sqlite(path) => panic!("{path:?}"),
    }
}

#[test]
fn a_full_dsn_is_taken_apart() {
    let target =
        mysql("mysql://us%40er:p%2Fw@db-a:3307/freehold?ssl_mode=verify_ca&ssl_ca=/ca.pem");
    assert_eq!((&*target.host, target.port), ("db-a", 3307));
    assert_eq!((&*target.user, &*target.database), ("us@er", "freehold"));
    assert_eq!(target.password, Password::Inline("p/w".into()));
    assert_eq!(target.ssl_mode, SslMode::VerifyCa);
    assert_eq!(target.ssl_ca, Some("/ca.pem".into()));
}

#[test]
fn defaults_are_port_3306_no_password_and_tls_only_where_an_authority_is_named() {
    let target = mysql("mysql://u@db/freehold");
    assert_eq!((target.port, target.password), (3306, Password::None));
    assert_eq!(target.ssl_mode, SslMode::Disabled);
    assert_eq!(
        mysql("mysql://u@db/freehold?ssl_ca=/ca").ssl_mode,
        SslMode::VerifyCa
    );
    assert_eq!(mysql("mysql://u@[::1]:3306/freehold").host, "::1");
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    for (text, words) in [
        ("db-a", "not a URL"),
        ("postgres://u@h/d", "postgres"),
        ("mysql://u@h", "database"),
        ("mysql://h/d", "user"),
        ("mysql://u@h/d?pasword_file=x", "pasword_file"),
        ("mysql://u@h/d?ssl_mode=on", "'on'"),
        ("mysql://u:p@h/d?password_env=P", "more than one"),
        ("sqlite://", "file"),
        ("sqlite://freehold-data/a.db", "three slashes"),
        ("sqlite:///a.db?mode=ro", "no parameters"),
        ("mysql://u@h/d#?ssl_mode=verify_ca", "%23"),
        ("mysql://u:%ff@h/d", "password is not UTF-8"),
        ("mysql://u@h/d%ff", "database is not UTF-8"),
        ("mysql://u@h/d?ssl_ca=%ff", "parameter is not UTF-8"),
        (
            "mysql://u@h/d?ssl_mode=verify_ca&ssl_mode=disabled",
            "twice",
        ),
    ] {
        let message = Dsn::parse(text).unwrap_err().to_string();
        assert!(message.contains(words), "{text}: {message}");
    }
}

#[test]
fn no_form_of_output_shows_a_password() {
    let dsn = Dsn::parse("mysql://u:secret@db/freehold").unwrap();
    assert!(!format!("{dsn} {dsn:?} {:?}", dsn.target()).contains("secret"));
}

proptest! {
    /// A name of a server that somebody mistyped, anywhere: it is taken apart or refused in words.
    #[test]
    fn any_text_is_a_dsn_or_refused(
        place in any::<prop::sample::Index>(),
        typed in "\\PC{0,3}",
        noise in "\\PC{0,40}",
    ) {
        let dsn = "mysql://us%40er:p%2Fw@[::1]:3307/freehold?ssl_mode=verify_ca&ssl_ca=/ca.pem";
        let place = place.index(dsn.len());
        let mistyped = format!("{}{typed}{}", &dsn[..place], &dsn[place + 1..]);
        for text in [mistyped, noise, format!("sqlite://{typed}"), format!("mysql://{typed}")] {
            if let Err(error) = Dsn::parse(&text) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn a_server_may_be_marked_as_never_promoted() {
    assert!(mysql("mysql://u@db/freehold").may_lead);
    assert!(mysql("mysql://u@db/freehold?promote=yes").may_lead);
    assert!(!mysql("mysql://u@db/freehold?promote=never").may_lead);
    let error = Dsn::parse("mysql://u@db/freehold?promote=no").unwrap_err();
    assert_eq!(error.to_string(), "promote is 'no': use yes or never");
}
