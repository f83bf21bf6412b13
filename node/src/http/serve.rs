//! Connections of operators: how many, and for how long.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{Operator, router};

/// Connections at once.
pub const MAX_CONNECTIONS: usize = 64;
/// For the head of a request, from the connection or the answer before.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// A connection is asked to end after so long; a scraper opens another one.
const LIFETIME: Duration = Duration::from_secs(300);
/// For the last answer of a connection that was asked to end.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// Memory for the head of a request.
const HEAD_BYTES: usize = 16 << 10;
/// Pause after the system could not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is cancelled and what was asked is answered.
///
/// # Errors
/// The socket has no address; a connection that cannot be had is tried again.
pub async fn serve(
    listener: TcpListener,
    operator: Arc<dyn Operator>,
    shutdown: CancellationToken,
) -> Result<(), io::Error> {
    let service = TowerToHyperService::new(router(operator, listener.local_addr()?));
    let (places, tasks) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (service, shutdown) = (service.clone(), shutdown.clone());
                tasks.spawn(async move {
                    connection(stream, service, shutdown).await;
                    drop(place);
                });
            }
            Err(error) => {
                debug!(%error, "cannot take a connection of an operator");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// A connection and its place. The place comes first: without one, connections wait in the kernel.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(stream: TcpStream, service: TowerToHyperService<axum::Router>, shutdown: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => Some(ended),
        () = tokio::time::sleep(LIFETIME) => None,
        () = shutdown.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER, serving).await
        }
    };
    if let Ok(Err(error)) = ended {
        debug!(%error, "a connection of an operator broke");
    }
}
