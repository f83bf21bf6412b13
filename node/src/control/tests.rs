//! The control socket over a real store.

use rorqual_store::{Column, ColumnOptions, Options};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;

const DATA: Column = Column("data");

struct World {
    folder: TempDir,
    data: PathBuf,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
    busy: Arc<Mutex<()>>,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    // Longer than an address of a socket may be.
    let data = folder.path().join("d".repeat(120));
    let store = Store::open(&data, Options::with_columns(vec![ColumnOptions::small(DATA.0)])).unwrap();
    store.write(DATA, "key", "value").await.unwrap();
    let control = Control::new(store, data.clone(), "member 3".into());
    let (busy, shutdown) = (control.busy.clone(), CancellationToken::new());
    let serving = tokio::spawn(control.serve(shutdown.clone()));
    while !exists(&data).unwrap() {
        tokio::task::yield_now().await;
    }
    World { folder, data, shutdown, serving, busy }
}

impl World {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(Address::of(&self.data).unwrap().path).await.unwrap()
    }

    async fn ask(&self, request: &str) -> Value {
        let mut stream = self.connect().await;
        stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.lines().last().unwrap()).unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn a_backup_is_for_its_owner_only_and_so_is_the_socket() {
    let world = world().await;
    assert_eq!(mode(&world.data.join(FILE)), 0o600);
    let backup = world.folder.path().join("backup");
    let answer = world.ask(&json!({ "backup": backup }).to_string()).await;
    assert_eq!(answer["backup"].as_str(), backup.to_str(), "{answer}");
    assert_eq!(mode(&backup), 0o700);
    for entry in fs::read_dir(&backup).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    assert!(!may_ask(65_534, 1_000) && may_ask(1_000, 1_000) && may_ask(0, 1_000));
    world.shutdown.cancel();
    world.serving.await.unwrap();
    assert!(!exists(&world.data).unwrap(), "a clean stop leaves no socket");
}

#[tokio::test]
async fn whoever_hangs_up_leaves_a_whole_backup_or_none() {
    let world = world().await;
    let backup = world.folder.path().join("backup");
    let mut stream = world.connect().await;
    stream.write_all(format!("{}\n", json!({ "backup": backup })).as_bytes()).await.unwrap();
    drop(stream);
    while !backup.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(world.busy.lock().await);
    assert!(!backup::partial_name(&backup).exists());
}

#[tokio::test]
async fn one_backup_at_a_time_none_in_the_data_directory_and_rubbish_is_refused() {
    let world = world().await;
    let only = world.busy.clone().lock_owned().await;
    let refused = world.ask(&json!({ "backup": world.folder.path().join("b") }).to_string()).await;
    assert!(refused["error"].as_str().unwrap().contains("another backup"), "{refused}");
    drop(only);
    let refused = world.ask(&json!({ "backup": world.data.join("inside") }).to_string()).await;
    assert!(refused["error"].as_str().unwrap().contains("inside the data directory"), "{refused}");
    for rubbish in ["", "rubbish", "{}", "{\"backup\": 5}"] {
        assert!(world.ask(rubbish).await["error"].as_str().unwrap().contains("/absolute/path"), "{rubbish}");
    }
}
