//! The endpoints over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;

struct Fixed {
    missing: Option<&'static str>,
}

impl Operator for Fixed {
    fn ready(&self) -> Vec<Check> {
        let quorum = self.missing.map_or(Ok(()), |missing| Err(missing.to_owned()));
        let clock = Check::advisory("clock", Err("2.0 s ahead".to_owned()));
        vec![Check::needed("running", Ok(())), Check::needed("quorum", quorum), clock]
    }
    fn status(&self) -> serde_json::Value {
        serde_json::json!({ "round": 5 })
    }
    fn metrics(&self) -> String {
        "# HELP a A\n# TYPE a gauge\na 1\n".into()
    }
    fn backup(&self, output: PathBuf) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(async move { if output.is_absolute() { Ok(()) } else { Err("not absolute".into()) } })
    }
}

async fn start(missing: Option<&'static str>) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let served = serve(listener, Arc::new(Fixed { missing }), shutdown.clone());
    (address, shutdown, tokio::spawn(async move { served.await.unwrap() }))
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn checks_are_named_and_decide_the_status_code() {
    let (address, ..) = start(None).await;
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let ready = get(address, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.ends_with("[+] running ok\n[+] quorum ok\n[!] clock 2.0 s ahead\n"),
        "{ready}"
    );
    let (address, ..) = start(Some("2 of 3")).await;
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    let ready = get(address, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.contains("[-] quorum 2 of 3\n[!] clock 2.0 s ahead\n"),
        "{ready}"
    );
}

#[tokio::test]
async fn formats_are_declared_and_what_is_not_there_is_listed() {
    let (address, ..) = start(None).await;
    assert!(get(address, "/metrics").await.contains("content-type: text/plain; version=0.0.4"));
    assert!(get(address, "/status").await.contains("content-type: application/json"));
    let missing = get(address, "/health").await;
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("/readyz"), "{missing}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_and_are_served() {
    let (address, ..) = start(None).await;
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let waiting = tokio::spawn(get(address, "/livez"));
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(idle.pop());
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn shutdown_does_not_wait_for_whoever_says_nothing() {
    let (address, shutdown, served) = start(None).await;
    let _idle = TcpStream::connect(address).await.unwrap();
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    shutdown.cancel();
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn garbage_and_endless_heads_are_cut_off() {
    let (address, ..) = start(None).await;
    for garbage in [vec![0xff; 1_000], b"GET /livez HTTP/1.1\r\n".repeat(5_000)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(&garbage).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        assert!(!text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&text));
    }
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
}
