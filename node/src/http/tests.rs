//! The endpoints over real sockets.

use std::time::Duration;

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
}

type Served = (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>);

async fn start(missing: Option<&'static str>) -> Served {
    start_within(missing, DEADLINE).await
}

async fn start_within(missing: Option<&'static str>, deadline: Duration) -> Served {
    let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let until = shutdown.clone();
    let served = tokio::spawn(async move {
        let names = ["node-0.example.org".to_owned()];
        serve::serve_within(listener, Arc::new(Fixed { missing }), &names, deadline, until).await;
    });
    (address, shutdown, served)
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
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
async fn silent_connections_and_unread_answers_never_keep_anybody_out() {
    let (address, ..) = start(None).await;
    let mut idle = Vec::new();
    for number in 0..4 * MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            // A body that never comes, an answer that nobody reads.
            let request = "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
        }
        idle.push(stream);
    }
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    // The oldest silent one had to go, without a word.
    assert_eq!(idle[1].read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn one_deadline_is_over_a_whole_request_and_its_answer() {
    let (address, ..) = start_within(None, Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    // A byte now and then: an ever growing head.
    let trickle = async {
        for byte in b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Ends because the connection does: the head would fit for minutes.
    trickle.await;
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn facts_are_only_told_to_whoever_means_this_host() {
    let (address, ..) = start(None).await;
    for (host, path, code) in [
        ("evil.example", "/status", 421),
        ("evil.example", "/metrics", 421),
        ("evil.example", "/livez", 200),
        ("evil.example", "/readyz", 200),
        ("node-0.example.org:9602", "/status", 200),
        ("10.0.0.7:9602", "/metrics", 200),
        ("localhost\r\nHost: localhost", "/status", 421),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {code}")), "{host} {path}: {text}");
    }
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
