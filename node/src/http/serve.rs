//! Connections of operators: how many, for how long, and who goes when there is no place.
//!
//! One request a connection, with one deadline over everything: its head, the answer, and its reading. So nobody holds a place by
//! saying little or reading little, and when all places are taken the oldest connection that has not asked yet, else the oldest
//! that has its answer and does not read it, gives way to the newcomer.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{Operator, router};

/// Connections at once.
pub const MAX_CONNECTIONS: usize = 64;
/// For a request, its answer and the reading of that.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// For the last answers when the endpoint is shut down.
const LAST_ANSWER: Duration = Duration::from_secs(2);
/// Memory for the head of a request.
const HEAD_BYTES: usize = 16 << 10;
/// Pause after the system could not give a connection, or every place is at work.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const SILENT: u8 = 0;
const ASKING: u8 = 1;
const ANSWERED: u8 = 2;
const ENDED: u8 = 3;

/// Serves until `shutdown` is cancelled and what was asked is answered.
///
/// # Errors
/// The socket has no address; a connection that cannot be had is tried again.
pub async fn serve(
    listener: TcpListener,
    operator: Arc<dyn Operator>,
    names: &[String],
    shutdown: CancellationToken,
) -> Result<(), io::Error> {
    listener.local_addr()?;
    serve_within(listener, operator, names, DEADLINE, shutdown).await;
    Ok(())
}

pub(super) async fn serve_within(
    listener: TcpListener,
    operator: Arc<dyn Operator>,
    names: &[String],
    deadline: Duration,
    shutdown: CancellationToken,
) {
    let (router, tasks) = (TowerToHyperService::new(router(operator, names)), TaskTracker::new());
    let mut places = Places::default();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &mut places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                tasks.spawn(connection(stream, router, place, deadline, shutdown));
            }
            Err(error) => {
                debug!(%error, "cannot take a connection of an operator");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// A connection and its place. While every place is at work, connections wait in the kernel.
async fn accept(listener: &TcpListener, places: &mut Places) -> io::Result<(TcpStream, Place)> {
    let (stream, _) = loop {
        if places.has_room() {
            break listener.accept().await?;
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    };
    Ok((stream, places.take()))
}

/// The connections there are, the oldest first.
#[derive(Default)]
struct Places(Vec<Place>);

/// How far a connection is, and the word that it has to go.
#[derive(Clone, Default)]
struct Place {
    state: Arc<AtomicU8>,
    leave: CancellationToken,
}

impl Place {
    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Relaxed) == state
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }
}

impl Places {
    /// Whether a newcomer has a place, or somebody can give way to it.
    fn has_room(&mut self) -> bool {
        self.0.retain(|place| !place.is(ENDED));
        self.0.len() < MAX_CONNECTIONS || self.0.iter().any(|place| !place.is(ASKING))
    }

    /// A place for a newcomer; call it after [`Places::has_room`].
    fn take(&mut self) -> Place {
        self.0.retain(|place| !place.is(ENDED));
        if self.0.len() >= MAX_CONNECTIONS {
            let oldest = |state| self.0.iter().position(|place| place.is(state));
            // All at work since it was asked: then the oldest has had its time.
            let goes = oldest(SILENT).or_else(|| oldest(ANSWERED)).unwrap_or(0);
            self.0.remove(goes).leave.cancel();
        }
        let place = Place::default();
        self.0.push(place.clone());
        place
    }
}

async fn connection(
    stream: TcpStream,
    router: TowerToHyperService<axum::Router>,
    place: Place,
    deadline: Duration,
    shutdown: CancellationToken,
) {
    let asked = place.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, asked) = (router.clone(), asked.clone());
        async move {
            asked.set(ASKING);
            let answer = router.call(request).await;
            asked.set(ANSWERED);
            Ok::<Response, Infallible>(answer.unwrap_or_else(|never| match never {}))
        }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(HEAD_BYTES);
    let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = tokio::time::timeout(deadline, serving.as_mut()) => ended.unwrap_or(Ok(())),
        () = place.leave.cancelled() => Ok(()),
        () = shutdown.cancelled() => match place.is(SILENT) {
            true => Ok(()),
            false => tokio::time::timeout(LAST_ANSWER, serving.as_mut()).await.unwrap_or(Ok(())),
        },
    };
    if let Err(error) = ended {
        debug!(%error, "a connection of an operator broke");
    }
    place.set(ENDED);
}
