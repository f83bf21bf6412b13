//! A panic in any task of the process ends the node with its reason. The task here is planted from outside: nothing in the product
//! knows of it, as nothing has to know of a task for its panic to be heard.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

use rorqual_config::load::load_node;
use rorqual_node::node::Node;

mod cluster;

use cluster::{Cluster, PATIENCE};

/// What a running node says when this is done beside it.
fn reason(plant: impl FnOnce()) -> String {
    let cluster = Cluster::prepare(1);
    let config = load_node(&cluster.members[0].config(), &[], &[]).unwrap();
    let opened = Node::open(config).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut node = opened.start().await.unwrap();
        assert!(node.failure().borrow().is_none());
        plant();
        let cause = tokio::time::timeout(PATIENCE, node.failed()).await.expect("the node has failed");
        assert_eq!(node.failure().borrow().clone(), Some(cause.to_string()), "the operator sees the same reason");
        node.close().await;
        cause.to_string()
    })
}

#[test]
fn a_panic_in_a_spawned_task_or_on_a_thread_ends_the_node_with_its_place() {
    let task = reason(|| drop(tokio::spawn(async { panic!("planted in a task") })));
    let blocking = reason(|| drop(tokio::task::spawn_blocking(|| panic!("planted on a blocking thread"))));
    let thread = reason(|| drop(std::thread::spawn(|| panic!("planted on a thread"))));
    for (reason, message) in [(task, "in a task"), (blocking, "on a blocking thread"), (thread, "on a thread")] {
        assert!(reason.contains("a_panic_ends_the_node.rs:"), "{reason}");
        assert!(reason.ends_with(&format!("planted {message}")), "{reason}");
    }
}
