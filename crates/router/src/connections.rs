//! Callers' connections, as many as there may be.
//!
//! One too many is let in for a moment, so that its calls are refused in words, with a time to try
//! again; where even those are many, it is closed at once.

use std::{io, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{budget::Budget, linger::Lingering};

/// Connections over the limit that are told so at one time.
const REFUSED_MAX: usize = 256;

/// The pause after the system had no connection to give: mostly, no file descriptor is left. Those
/// who wait meanwhile are the system's to keep.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

struct Door {
    listener: TcpListener,
    places: Arc<Budget>,
    refused: Arc<Budget>,
    draining: CancellationToken,
}

/// Connections as they come, for as long as this is polled.
pub fn accept(
    listener: TcpListener,
    places: Arc<Budget>,
    draining: CancellationToken,
) -> impl Stream<Item = io::Result<Lingering>> {
    let door = Door {
        listener,
        places,
        refused: Budget::new("connections over the limit", REFUSED_MAX),
        draining,
    };
    stream::unfold(
        door,
        |door| async move { Some((Ok(door.next().await), door)) },
    )
}

impl Door {
    async fn next(&self) -> Lingering {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Some(connection) = self.place(stream) {
                        return connection;
                    }
                }
                // It was gone before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    fn place(&self, stream: TcpStream) -> Option<Lingering> {
        // Without it an answer may wait 40 ms for the caller's delayed acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let draining = self.draining.clone();
        match self.places.hold(1) {
            Some(place) => Some(Lingering::new(stream, place, draining)),
            None => Some(Lingering::refused(stream, self.refused.hold(1)?, draining)),
        }
    }
}
