//! Ports that no other test takes, not even while their server is down.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::engine::cache;
use crate::error::{Error, Result};

/// Below the range the system draws client ports from (32768 up), so that a server that was
/// killed finds its port free again although hundreds of connections were made in between.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// One port on 127.0.0.1, kept for as long as this value lives.
///
/// The claim is a file lock: it ends with the process that holds it, however that ends.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: File,
}

impl Port {
    /// Claims a port that nothing listens on.
    pub fn claim() -> Result<Self> {
        let folder = cache()?.join("ports");
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        // Tests run as processes of their own, mostly: start each at a place of its own.
        let start = (std::process::id().wrapping_mul(37) % u32::from(COUNT)) as u16;
        for step in 0..COUNT {
            let number = FIRST + (start + step) % COUNT;
            let path = folder.join(number.to_string());
            let claim = File::create(&path).map_err(Error::io(&path))?;
            if claim.try_lock().is_ok() && TcpListener::bind(address(number)).is_ok() {
                return Ok(Self {
                    number,
                    _claim: claim,
                });
            }
        }
        Err(Error::Missing {
            what: format!("a free port from {FIRST} to {}", FIRST + COUNT),
            remedy: "end what listens on them".to_owned(),
        })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on the loopback address.
    pub fn address(&self) -> SocketAddr {
        address(self.number)
    }
}

fn address(number: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, number).into()
}
