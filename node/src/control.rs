//! The control socket: the file `control.sock` in the data directory, for the user that runs the node and for root.
//!
//! Promises: nobody else is answered, whatever the modes of the directory are (the system tells who has connected). It takes one
//! request, `{"backup": "/absolute/path"}` in one line, and answers in lines: `{"progress": "..."}` each second, then `{"backup": "..."}`
//! or `{"error": "..."}`. One backup at a time; a backup goes on when its asker goes away, and its end is in the log. At most 8
//! connections; a request that does not come within 5 s ends its connection.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rorqual_store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{backup, disk};

/// Its name in the data directory.
pub const FILE: &str = "control.sock";
/// Time between two signs of life of a backup.
pub const PROGRESS: Duration = Duration::from_secs(1);
/// For the request, and for each line of the answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest request.
const REQUEST_BYTES: u64 = 16 << 10;
/// Connections at once; further ones wait in the kernel.
const CONNECTIONS: usize = 8;
/// Pause after the system could not give a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket's address: the system takes at most 107 bytes, so that it is named through the open directory.
pub struct Address {
    /// Kept open while the address is used.
    _directory: fs::File,
    /// Where to bind or connect.
    pub path: PathBuf,
}

impl Address {
    /// That of a data directory.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn of(data_dir: &Path) -> io::Result<Self> {
        let directory = fs::File::open(data_dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(FILE);
        Ok(Self { _directory: directory, path })
    }
}

/// What is copied, and of whom.
pub struct Control {
    /// The data.
    pub store: Store,
    /// Where it lies.
    pub data_dir: PathBuf,
    /// Whose it is, in words.
    pub of: String,
    /// One backup at a time.
    busy: Arc<Mutex<()>>,
}

impl Control {
    /// Of this store.
    pub fn new(store: Store, data_dir: PathBuf, of: String) -> Self {
        Self { store, data_dir, of, busy: Arc::default() }
    }

    /// Binds the socket and answers until `shutdown` is cancelled. A filesystem without sockets is told in the log, once: everything
    /// but backups of the running node works.
    pub async fn serve(self, shutdown: CancellationToken) {
        let (listener, owner) = match bind(&self.data_dir) {
            Ok(bound) => bound,
            Err(error) => {
                warn!(%error, "no control socket {FILE} in the data directory: backups are made of the stopped node only");
                return shutdown.cancelled().await;
            }
        };
        let (this, places) = (Arc::new(self), Arc::new(Semaphore::new(CONNECTIONS)));
        let _ = shutdown.run_until_cancelled(this.clone().accept(listener, owner, places)).await;
        let _ = fs::remove_file(this.data_dir.join(FILE));
    }

    async fn accept(self: Arc<Self>, listener: UnixListener, owner: u32, places: Arc<Semaphore>) {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let this = self.clone();
            tokio::spawn(async move {
                // Whoever goes away needs no answer.
                let _ = this.connection(stream, owner).await;
                drop(place);
            });
        }
    }

    async fn connection(&self, mut stream: UnixStream, owner: u32) -> io::Result<()> {
        if !may_ask(stream.peer_cred()?.uid(), owner) {
            return say(&mut stream, &json!({ "error": "only the user that runs the node, and root, may ask" })).await;
        }
        let mut line = String::new();
        let mut request = BufReader::new((&mut stream).take(REQUEST_BYTES));
        tokio::time::timeout(PATIENCE, request.read_line(&mut line)).await??;
        let facts: Value = serde_json::from_str(&line).unwrap_or_default();
        match facts["backup"].as_str() {
            Some(output) => self.backup(&mut stream, PathBuf::from(output)).await,
            None => say(&mut stream, &json!({ "error": "the request must be {\"backup\": \"/absolute/path\"}" })).await,
        }
    }

    async fn backup(&self, stream: &mut UnixStream, output: PathBuf) -> io::Result<()> {
        let Ok(only) = self.busy.clone().try_lock_owned() else {
            return say(stream, &json!({ "error": "another backup is being made: try again when it is done" })).await;
        };
        let began = Instant::now();
        let (store, data_dir, of, to) = (self.store.clone(), self.data_dir.clone(), self.of.clone(), output.clone());
        // A task of its own: it ends, and says how in the log, whether or not anybody waits for it.
        let mut made = tokio::spawn(async move {
            let made = backup::make(&store, &data_dir, &to, &of).await;
            match &made {
                Ok(()) => info!(output = %to.display(), seconds = began.elapsed().as_secs(), "a backup was made"),
                Err(reason) => warn!(output = %to.display(), reason, "no backup was made"),
            }
            drop(only);
            made
        });
        loop {
            tokio::select! {
                made = &mut made => return say(stream, &result(made.unwrap_or_else(|panic| Err(panic.to_string())), &output)).await,
                () = tokio::time::sleep(PROGRESS) => {
                    let partial = backup::partial_name(&output);
                    let bytes = tokio::task::spawn_blocking(move || disk::used(&partial).unwrap_or(0)).await.unwrap_or(0);
                    let text = format!("{} s, {} MiB", began.elapsed().as_secs(), bytes >> 20);
                    say(stream, &json!({ "progress": text })).await?;
                }
            }
        }
    }
}

fn result(made: Result<(), String>, output: &Path) -> Value {
    match made {
        Ok(()) => json!({ "backup": output.display().to_string() }),
        Err(error) => json!({ "error": error }),
    }
}

fn may_ask(asker: u32, owner: u32) -> bool {
    asker == owner || asker == 0
}

async fn say(stream: &mut UnixStream, line: &Value) -> io::Result<()> {
    tokio::time::timeout(PATIENCE, stream.write_all(format!("{line}\n").as_bytes())).await?
}

/// The socket and its owner, the user of this process. The one who binds holds the lock of the database: a socket that is there
/// already was left by a process that is gone.
fn bind(data_dir: &Path) -> io::Result<(UnixListener, u32)> {
    let address = Address::of(data_dir)?;
    match fs::remove_file(&address.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&address.path)?;
    fs::set_permissions(&address.path, fs::Permissions::from_mode(0o600))?;
    let owner = fs::symlink_metadata(&address.path)?.uid();
    Ok((listener, owner))
}

/// Whether a socket is that of `data_dir`'s owner, so that its answers can be believed.
///
/// # Errors
/// What the system said.
pub fn exists(data_dir: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(data_dir.join(FILE)) {
        Ok(socket) => Ok(socket.uid() == fs::metadata(data_dir)?.uid()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
