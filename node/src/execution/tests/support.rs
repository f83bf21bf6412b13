//! Small committees, deliveries by hand, and a node that runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rorqual_client::content::build;
use rorqual_client::submission::{Submission, Ticket};
use rorqual_config::committee::{Member, Stake};
use rorqual_config::encoding::encode;
use rorqual_config::parameters::{NodeParameters, StoreParameters};
use rorqual_config::{AuthorityIndex, Committee, Digest, KeyPair, ProtocolParameters};
use rorqual_protocol::types::commit::DeliveredBatch;
use rorqual_protocol::types::{BatchKey, BatchRef, Commit, CommitIndex, Delivery, Round, Sequence};
use rorqual_store::Store;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clients::receipts::Receipts;
use crate::execution::{Execution, ExecutionError, ExecutionSetup, start};
use crate::schema;

/// Four members; ids live 1 000 ms, two of an author at once; 16 bytes a transaction, 24 a submission.
pub fn committee() -> Arc<Committee> {
    let members = (0..4u8).map(|i| Member {
        name: format!("node-{i}"),
        public_key: KeyPair::from_seed([i + 1; 32]).public(),
        stake: Stake(1),
        address: format!("127.0.0.1:{}", 9_000 + u16::from(i)),
    });
    let rules = ProtocolParameters {
        gc_depth: 17,
        checkpoint_interval: 4,
        replay_window: 64,
        max_lifetime: Duration::from_millis(1_000),
        max_live_ids: 2,
        max_transaction_bytes: 16,
        max_submission_bytes: 24,
        ..ProtocolParameters::default()
    };
    Arc::new(Committee::new(0, Digest::default(), members.collect(), rules).unwrap())
}

pub fn store() -> Store {
    Store::in_memory(schema::options(&StoreParameters::default(), true))
}

/// A submission with an id.
pub fn ticketed(nonce: u8, deadline_ms: u64, transactions: &[&str]) -> Submission {
    let ticket = Ticket { nonce: [nonce; 16], deadline_ms };
    Submission::many(Some(ticket), transactions.iter().map(|text| text.as_bytes()))
}

/// A submission without an id.
pub fn plain(transactions: &[&str]) -> Submission {
    Submission::many(None, transactions.iter().map(|text| text.as_bytes()))
}

/// Lets others run until the condition holds.
pub async fn wait_for(mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), holds).await.expect("it must not wait for ever");
}

/// A batch with its content.
#[derive(Clone)]
pub struct Batch {
    pub delivered: DeliveredBatch,
    pub payload: Bytes,
}

impl Batch {
    pub fn new(author: u16, sequence: u64, submissions: &[Submission]) -> Self {
        Self::raw(author, sequence, build(submissions))
    }

    pub fn raw(author: u16, sequence: u64, payload: Bytes) -> Self {
        let (author, sequence) = (AuthorityIndex(author), Sequence(sequence));
        let digest = BatchKey::digest_of(0, author, sequence, &payload);
        let batch = BatchRef { sequence, digest, bytes: payload.len() as u32 };
        Self { delivered: DeliveredBatch { author, batch }, payload }
    }

    pub fn key(&self) -> BatchKey {
        self.delivered.key()
    }
}

/// Commit `index` of leader round `index`.
pub fn delivery(index: u64, timestamp_ms: u64, batches: &[Batch]) -> Arc<Delivery> {
    let commit = Commit {
        epoch: 0,
        index: CommitIndex(index),
        previous: Digest::default(),
        leader_round: Round(index),
        leaders: Vec::new(),
        timestamp_ms,
        gc_round: Round(index).minus(18),
        blocks: Vec::new(),
        blocks_root: Digest::default(),
        batches_root: Digest::default(),
        aux: None,
    };
    Arc::new(Delivery { commit, batches: batches.iter().map(|batch| batch.delivered).collect() })
}

/// A node's execution over a store.
pub struct Running {
    pub store: Store,
    pub execution: Execution,
    deliveries: mpsc::Sender<Arc<Delivery>>,
    executed: mpsc::Receiver<(CommitIndex, Digest)>,
    shutdown: CancellationToken,
}

impl Running {
    pub async fn start(store: &Store) -> Result<Self, ExecutionError> {
        Self::start_with(store, Receipts::default()).await
    }

    async fn start_with(store: &Store, receipts: Receipts) -> Result<Self, ExecutionError> {
        let (deliveries, inbox) = mpsc::channel(8);
        let (outbox, executed) = mpsc::channel(8);
        let shutdown = CancellationToken::new();
        let execution = start(ExecutionSetup {
            store: store.clone(),
            committee: committee(),
            me: AuthorityIndex(0),
            parameters: NodeParameters::default(),
            deliveries: inbox,
            executed: outbox,
            receipts,
            shutdown: shutdown.clone(),
        })
        .await?;
        Ok(Self { store: store.clone(), execution, deliveries, executed, shutdown })
    }

    /// Writes the commit record and hands the delivery over, as consensus does.
    pub async fn deliver(&self, delivery: &Arc<Delivery>) {
        let key = schema::index_key(delivery.commit.index);
        self.store.write(schema::COMMITS, key, encode(&**delivery)).await.unwrap();
        self.deliveries.send(delivery.clone()).await.unwrap();
    }

    pub async fn payload(&self, batch: &Batch) {
        let key = schema::batch_key(&batch.key());
        self.store.write(schema::PAYLOAD, key, batch.payload.clone()).await.unwrap();
    }

    /// Payload, record, delivery, and its execution.
    pub async fn commit(&mut self, index: u64, timestamp_ms: u64, batches: &[Batch]) -> Digest {
        for batch in batches {
            self.payload(batch).await;
        }
        self.deliver(&delivery(index, timestamp_ms, batches)).await;
        let (executed, digest) = self.executed().await;
        assert_eq!(executed, CommitIndex(index));
        digest
    }

    /// The same store, with receipts that a test looks at.
    pub async fn with_receipts(self, receipts: Receipts) -> Self {
        let store = self.store.clone();
        self.stop().await.unwrap();
        Self::start_with(&store, receipts).await.unwrap()
    }

    /// Hands a delivery over whose commit record is written.
    pub async fn hand_over(&self, delivery: &Arc<Delivery>) {
        self.deliveries.send(delivery.clone()).await.unwrap();
    }

    pub fn nothing_executed(&mut self) -> bool {
        self.executed.try_recv().is_err()
    }

    pub async fn executed(&mut self) -> (CommitIndex, Digest) {
        self.executed.recv().await.expect("execution goes on")
    }

    /// Whether nothing was executed for a while.
    pub async fn is_waiting(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(50), self.executed.recv()).await.is_err()
    }

    pub async fn stop(self) -> Result<(), ExecutionError> {
        self.shutdown.cancel();
        self.execution.task.await.expect("no panic")
    }

    /// Why it ends by itself.
    pub async fn ended(self) -> ExecutionError {
        self.execution.task.await.expect("no panic").expect_err("nobody stopped it")
    }

    /// Consensus ends.
    pub async fn abandon(self) -> ExecutionError {
        drop(self.deliveries);
        self.execution.task.await.expect("no panic").expect_err("nobody stopped it")
    }
}
