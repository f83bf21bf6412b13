//! Takes connections, and turns away those beyond the limit.

use std::sync::Arc;
use std::time::Duration;

use rorqual_client::frames::{ClientHello, Greeting, MAX_HELLO_BYTES, Turned};
use rorqual_network::frame::{FrameReader, write_frame};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::connection::{HELLO_TIMEOUT, Room, linger};

/// Connections that are being turned away at once; further ones are closed without a word.
const MAX_TURNED: usize = 64;
/// Pause after the system could not give a connection, which is when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Runs until the room stops.
pub async fn accept(listener: TcpListener, room: Room, tasks: TaskTracker) {
    let turned = Arc::new(Semaphore::new(MAX_TURNED));
    loop {
        let accepted = tokio::select! {
            () = room.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                room.gate.counters.accept_errors.bump();
                warn!(%error, "cannot take a client connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let counters = &room.gate.counters;
        let why = if room.closing.is_cancelled() {
            counters.connections_refused_stopping.bump();
            Turned::ShuttingDown
        } else if let Some(place) = room.gate.enter() {
            tasks.spawn(room.clone().serve(stream, from, place));
            continue;
        } else {
            counters.connections_refused_full.bump();
            Turned::Full { limit: room.gate.max_connections() }
        };
        debug!(%from, %why, "client connection refused");
        if let Ok(permit) = turned.clone().try_acquire_owned() {
            tasks.spawn(async move {
                // Whoever does not wait for the reason does not get it.
                let _ = tokio::time::timeout(HELLO_TIMEOUT, turn_away(stream, why)).await;
                drop(permit);
            });
        }
    }
}

/// Hears the hello first: closing with unread bytes could take the answer away from the client.
async fn turn_away(mut stream: TcpStream, why: Turned) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = FrameReader::new(reader, MAX_HELLO_BYTES);
    let is_client = reader.next().await.is_ok_and(|frame| ClientHello::check(&frame).is_ok());
    if is_client {
        write_frame(&mut writer, Greeting::Turned(why).frame()).await?;
        writer.shutdown().await?;
        linger(&mut reader).await;
    }
    Ok(())
}
