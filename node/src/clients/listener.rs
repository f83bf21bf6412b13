//! Takes connections. Whoever has not said hello takes no client's place: see [`rorqual_network::half_open`].

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::connection::Room;

/// Pause after the system could not give a connection, which is when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Pause between warnings about that.
const QUIET: Duration = Duration::from_secs(60);

/// Runs until the room stops.
pub async fn accept(listener: TcpListener, room: Room, tasks: TaskTracker) {
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = room.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                room.gate.counters.accept_errors.bump();
                if warned.is_none_or(|at| at.elapsed() >= QUIET) {
                    warned = Some(Instant::now());
                    warn!(%error, "cannot take client connections: raise the limit of open files, or lower client.max_connections");
                } else {
                    debug!(%error, "cannot take a client connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        tasks.spawn(room.clone().serve(stream, from));
    }
}
