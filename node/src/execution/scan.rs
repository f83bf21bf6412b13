//! Which transactions of a batch are in the log, and where: pure.

use rorqual_client::content::Content;

use super::record::{BatchRecord, ExecutionRecord, Refused};

/// The batch of a commit that holds the transaction `offset` (counted from the commit's first), and how many applied
/// transactions of that batch come before it. None past the last one.
pub fn locate(record: &ExecutionRecord, offset: u64) -> Option<(usize, u64)> {
    let mut rest = offset;
    for (order, batch) in record.batches.iter().enumerate() {
        match rest.checked_sub(u64::from(batch.applied)) {
            None => return Some((order, rest)),
            Some(beyond) => rest = beyond,
        }
    }
    None
}

/// Whether the batch has refused submissions, so that a row names them.
pub fn has_refused(batch: &BatchRecord) -> bool {
    batch.applied < batch.transactions
}

/// The transactions of a batch that were applied, in order, as numbers within the batch.
pub fn applied<'a>(content: &'a Content, refused: &'a Refused) -> impl Iterator<Item = u32> + 'a {
    let kept = (0..content.submissions()).filter(|submission| !refused.contains(*submission));
    kept.flat_map(|submission| content.submission(submission).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rorqual_client::content::build;
    use rorqual_client::submission::Submission;
    use rorqual_config::Digest;
    use rorqual_protocol::types::CommitIndex;

    #[test]
    fn offsets_are_found_in_their_batch() {
        let batch = |applied| BatchRecord { submissions: 9, transactions: 9, applied };
        let record = ExecutionRecord {
            index: CommitIndex(1),
            first_position: 0,
            transactions: 5,
            time_ms: 0,
            payload_before: 0,
            batches: vec![batch(0), batch(2), batch(0), batch(3)],
            digest: Digest::default(),
        };
        let found: Vec<_> = (0..6).map(|offset| locate(&record, offset)).collect();
        assert_eq!(found, [Some((1, 0)), Some((1, 1)), Some((3, 0)), Some((3, 1)), Some((3, 2)), None]);
    }

    #[test]
    fn refused_submissions_are_left_out() {
        let submissions = ["a b", "c", "d e"].map(|texts| Submission::many(None, texts.split(' ').map(str::as_bytes)));
        let content = Content::parse(build(&submissions)).unwrap();
        let mut refused = Refused::default();
        assert_eq!(applied(&content, &refused).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        refused.insert(1);
        let kept: Vec<Bytes> = applied(&content, &refused).map(|number| content.transaction(number)).collect();
        assert_eq!(kept, ["a", "b", "d", "e"]);
    }
}
