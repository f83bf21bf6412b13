//! Tells the service manager how far the node is: the `sd_notify` protocol of systemd, `Type=notify`.
//!
//! One datagram a message to the socket that `NOTIFY_SOCKET` names. Where nothing is named nobody is told, and a node runs the same
//! without anybody listening: nothing here is an error of the node.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

/// Where the manager listens, if one does.
pub struct ServiceManager(Option<SocketAddr>);

impl ServiceManager {
    /// The one that started this process.
    pub fn of_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Self(None) };
        let address = address(name.as_encoded_bytes());
        if address.is_none() {
            warn!("NOTIFY_SOCKET {name:?} is not the name of a socket: nobody is told that this node is ready");
        }
        Self(address)
    }

    /// All listeners are bound and the store is recovered. A quorum is not waited for: nodes that boot together would wait for
    /// each other.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=running");
    }

    /// The node delivers its own payload and flushes.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    fn tell(&self, message: &str) {
        let Some(address) = &self.0 else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            // A manager that does not read must not hold the node up.
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), address)
        });
        if let Err(error) = sent {
            warn!(%error, "the service manager was not told: {}", message.replace('\n', ", "));
        }
    }
}

/// A path, or a name in the abstract namespace after `@`.
fn address(name: &[u8]) -> Option<SocketAddr> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(OsStr::from_bytes(name)).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_manager_hears_that_the_node_is_ready_and_that_it_stops() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager(address(path.as_os_str().as_encoded_bytes()));
        manager.ready();
        assert!(heard(&socket).starts_with("READY=1\n"));
        manager.stopping();
        assert!(heard(&socket).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn an_abstract_name_is_understood() {
        let name = format!("rorqual-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        ServiceManager(address(format!("@{name}").as_bytes())).ready();
        assert!(heard(&socket).starts_with("READY=1"));
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        ServiceManager(None).ready();
        ServiceManager(address(b"/nowhere/at/all")).ready();
        assert!(address(b"relative").is_none() && address(b"").is_none());
    }
}
