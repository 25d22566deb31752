//! The name of a database server.

use freehold_storage::{
    Dsn,
    dsn::{MysqlTarget, Password, SslMode, Target},
};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Gives the text to whoever reads DSNs.
///
/// # Panics
/// If a password is shown, or one that is taken means something else when it is written down again.
pub fn check(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let dsn = match Dsn::parse(text) {
        Ok(dsn) => dsn,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    match dsn.target() {
        Target::Sqlite(path) => {
            assert_eq!(path.to_str(), Some(&*dsn.to_string()));
        }
        Target::Mysql(target) => {
            hides_its_password(&dsn, target);
            is_what_was_written(text, target);
            let again = written(target);
            assert_eq!(Dsn::parse(&again).as_ref(), Ok(&dsn), "{again}");
        }
    }
}

/// Whatever is printed of two DSNs that differ in their passwords alone is the same.
fn hides_its_password(dsn: &Dsn, target: &MysqlTarget) {
    let other = dsn
        .clone()
        .with_account(&target.user, Password::Inline("another".to_owned()));
    assert_eq!(dsn.to_string(), other.to_string());
    assert_eq!(format!("{dsn:?}"), format!("{other:?}"));
}

/// No byte of names and passwords became another one.
fn is_what_was_written(text: &str, target: &MysqlTarget) {
    // A URL has none of these: whoever reads one leaves them out.
    let text = text.replace(['\t', '\n', '\r'], "");
    let written: Vec<u8> = percent_decode_str(&text).collect();
    let mut names = vec![&target.user, &target.database];
    if let Password::Inline(password) = &target.password {
        names.push(password);
    }
    for name in names {
        let name = name.as_bytes();
        let is_there = written.windows(name.len().max(1)).any(|part| part == name);
        assert!(is_there || name.is_empty(), "{name:?} is not in {text:?}");
    }
    assert!(!target.user.is_empty() && !target.database.is_empty() && !target.host.is_empty());
}

/// A DSN that names this server.
fn written(target: &MysqlTarget) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let path = |path: &std::path::Path| encode(&path.to_string_lossy());
    let MysqlTarget {
        host,
        port,
        user,
        password,
        database,
        ssl_mode,
        ssl_ca,
        may_lead,
    } = target;
    let mut parameters = Vec::new();
    let mut account = encode(user);
    match password {
        Password::None => {}
        Password::Inline(password) => account += &format!(":{}", encode(password)),
        Password::File(file) => parameters.push(format!("password_file={}", path(file))),
        Password::Env(name) => parameters.push(format!("password_env={}", encode(name))),
    }
    let mode = match ssl_mode {
        SslMode::Disabled => "disabled",
        SslMode::Required => "required",
        SslMode::VerifyCa => "verify_ca",
        SslMode::VerifyIdentity => "verify_identity",
    };
    parameters.push(format!("ssl_mode={mode}"));
    parameters.extend(ssl_ca.as_ref().map(|ca| format!("ssl_ca={}", path(ca))));
    parameters.push(format!(
        "promote={}",
        if *may_lead { "yes" } else { "never" }
    ));
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let database = encode(database);
    let parameters = parameters.join("&");
    format!("mysql://{account}@{host}:{port}/{database}?{parameters}")
}
