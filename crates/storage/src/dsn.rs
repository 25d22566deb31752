//! Where a server is: `mysql://user:password@host:3306/database?ssl_mode=...` or
//! `sqlite:///path/to/file`.

use std::{borrow::Cow, fmt, path::PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

/// A checked DSN. Its `Debug` and `Display` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    target: Target,
}

/// What a DSN names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// MySQL or MariaDB over TCP.
    Mysql(MysqlTarget),
    /// An embedded SQLite file.
    Sqlite(PathBuf),
}

/// A MySQL or MariaDB server and the account to use there.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlTarget {
    /// A name or an address.
    pub host: String,
    /// 3306 unless the DSN says otherwise.
    pub port: u16,
    /// The account.
    pub user: String,
    /// Where its password is.
    pub password: Password,
    /// The schema that holds the tables.
    pub database: String,
    /// Whether and how TLS is used.
    pub ssl_mode: SslMode,
    /// A PEM file of certificate authorities, instead of the public ones.
    pub ssl_ca: Option<PathBuf>,
    /// Whether it may be promoted: `promote=never` says that it will not be, whatever happens.
    pub may_lead: bool,
}

/// Where a password comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The account has none.
    None,
    /// It stands in the DSN.
    Inline(String),
    /// The first line of a file, read at every new connection, so that it can be rotated.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// How a connection is protected; the words are those of MySQL's own clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Plain TCP.
    Disabled,
    /// TLS, without looking at the certificate.
    Required,
    /// TLS with a certificate of a known authority.
    VerifyCa,
    /// TLS with a certificate of a known authority for this host name.
    VerifyIdentity,
}

/// Why a DSN is unusable. Shows no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// It is not a URL.
    #[error("not a URL ({0}): write mysql://USER@HOST:3306/DATABASE?password_file=FILE")]
    Url(String),
    /// It names no database server that is known here.
    #[error("unknown scheme '{0}': use mysql:// (MySQL and MariaDB) or sqlite://")]
    Scheme(String),
    /// A part is missing.
    #[error("{0} is missing: write mysql://USER@HOST:3306/DATABASE")]
    Missing(&'static str),
    /// A parameter that is not known.
    #[error(
        "unknown parameter '{0}': known are password_file, password_env, ssl_mode, ssl_ca and promote"
    )]
    Parameter(String),
    /// A parameter with a value that is not known.
    #[error("{name} is '{value}': {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        expected: &'static str,
    },
    /// A parameter that stands there twice.
    #[error("{0} stands there twice: give it once")]
    Twice(String),
    /// A part whose %-escapes are not UTF-8.
    #[error("{0} is not UTF-8 once its %-escapes are read: nobody could tell what it names")]
    NotUtf8(&'static str),
    /// A part that nobody would look at.
    #[error(
        "'#' ends a DSN, and something stands behind it: write %23 for a '#' that belongs to it"
    )]
    Fragment,
    /// A part that a file does not have.
    #[error("a file has no {0}: write sqlite:///PATH/TO/FILE, with three slashes")]
    NotOfAFile(&'static str),
    /// More than one password.
    #[error("more than one of password, password_file and password_env: give one")]
    Passwords,
}

impl Dsn {
    /// Reads a DSN. Opens nothing and reads no password file.
    ///
    /// # Errors
    /// [`DsnError`], which names the part, its value and what to write instead.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let url = Url::parse(text).map_err(|error| DsnError::Url(error.to_string()))?;
        if url.fragment().is_some() {
            return Err(DsnError::Fragment);
        }
        let target = match url.scheme() {
            "mysql" | "mariadb" => Target::Mysql(mysql_target(&url)?),
            "sqlite" => Target::Sqlite(sqlite_path(&url)?),
            other => return Err(DsnError::Scheme(other.to_owned())),
        };
        Ok(Self { target })
    }

    /// The DSN of a SQLite file.
    #[must_use]
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self {
            target: Target::Sqlite(path.into()),
        }
    }

    /// Whether the server may ever lead its shard.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        match &self.target {
            Target::Mysql(target) => target.may_lead,
            Target::Sqlite(_) => true,
        }
    }

    /// What it names.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The same place with another account; SQLite has none.
    #[must_use]
    pub fn with_account(mut self, user: &str, password: Password) -> Self {
        if let Target::Mysql(target) = &mut self.target {
            target.user = user.to_owned();
            target.password = password;
        }
        self
    }
}

/// Host, port and database, or the file.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Mysql(target) => {
                write!(f, "{}:{}/{}", target.host, target.port, target.database)
            }
            Target::Sqlite(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({self})")
    }
}

impl fmt::Debug for MysqlTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "MysqlTarget({}@{}:{}/{})",
            self.user, self.host, self.port, self.database
        )
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Inline(_) => "Inline(..)",
            Self::File(_) => "File(..)",
            Self::Env(_) => "Env(..)",
        })
    }
}

fn sqlite_path(url: &Url) -> Result<PathBuf, DsnError> {
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(DsnError::NotOfAFile("host"));
    }
    if url.query().is_some() {
        return Err(DsnError::NotOfAFile("parameters"));
    }
    let path = decode("the file", url.path())?;
    if path.trim_matches('/').is_empty() {
        return Err(DsnError::Missing("the file"));
    }
    Ok(PathBuf::from(path))
}

fn mysql_target(url: &Url) -> Result<MysqlTarget, DsnError> {
    let host = url.host_str().filter(|host| !host.is_empty());
    let database = decode("the database", url.path().trim_start_matches('/'))?;
    if database.is_empty() || database.contains('/') {
        return Err(DsnError::Missing("the database"));
    }
    if url.username().is_empty() {
        return Err(DsnError::Missing("the user"));
    }
    let mut passwords = Vec::new();
    if let Some(text) = url.password() {
        passwords.push(Password::Inline(decode("the password", text)?));
    }
    decode("a parameter", url.query().unwrap_or_default())?;
    let mut ssl_mode = None;
    let mut ssl_ca = None;
    let mut may_lead = true;
    let mut seen: Vec<Cow<'_, str>> = Vec::new();
    for (name, value) in url.query_pairs() {
        if seen.contains(&name) {
            return Err(DsnError::Twice(name.into_owned()));
        }
        seen.push(name.clone());
        match &*name {
            "password_file" => passwords.push(Password::File(PathBuf::from(&*value))),
            "password_env" => passwords.push(Password::Env(value.into_owned())),
            "ssl_mode" => ssl_mode = Some(parse_ssl_mode(&value)?),
            "promote" => may_lead = parse_promote(&value)?,
            "ssl_ca" => ssl_ca = Some(PathBuf::from(&*value)),
            other => return Err(DsnError::Parameter(other.to_owned())),
        }
    }
    if passwords.len() > 1 {
        return Err(DsnError::Passwords);
    }
    let verify_if_ca = if ssl_ca.is_some() {
        SslMode::VerifyCa
    } else {
        SslMode::Disabled
    };
    Ok(MysqlTarget {
        // An IPv6 address stands in brackets in a URL, and without them everywhere else.
        host: host
            .ok_or(DsnError::Missing("the host"))?
            .trim_matches(['[', ']'])
            .to_owned(),
        port: url.port().unwrap_or(3306),
        user: decode("the user", url.username())?,
        password: passwords.pop().unwrap_or(Password::None),
        database,
        ssl_mode: ssl_mode.unwrap_or(verify_if_ca),
        ssl_ca,
        may_lead,
    })
}

/// Whether the server may be promoted.
fn parse_promote(value: &str) -> Result<bool, DsnError> {
    match value {
        "yes" => Ok(true),
        "never" => Ok(false),
        other => Err(DsnError::Value {
            name: "promote",
            value: other.to_owned(),
            expected: "use yes or never",
        }),
    }
}

fn parse_ssl_mode(value: &str) -> Result<SslMode, DsnError> {
    Ok(match value {
        "disabled" => SslMode::Disabled,
        "required" => SslMode::Required,
        "verify_ca" => SslMode::VerifyCa,
        "verify_identity" => SslMode::VerifyIdentity,
        other => {
            return Err(DsnError::Value {
                name: "ssl_mode",
                value: other.to_owned(),
                expected: "use disabled, required, verify_ca or verify_identity",
            });
        }
    })
}

fn decode(part: &'static str, text: &str) -> Result<String, DsnError> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| DsnError::NotUtf8(part))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
#[path = "dsn_tests.rs"]
mod tests;
