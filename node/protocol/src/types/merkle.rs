//! Merkle trees over BLAKE3, shaped as in RFC 6962 (certificate transparency): leaves and inner nodes are hashed in different
//! domains, so that the root fixes the list, its order and its length, and no inner node passes for a leaf.
//!
//! Promises: equal lists have equal roots and different lists different ones; a proof of membership is the list of siblings
//! from the leaf up, about log2(length) digests.

use bincode::Encode;
use rorqual_config::Digest;
use rorqual_config::encoding::encode;

fn leaf<T: Encode>(value: &T) -> Digest {
    Digest::of("merkle/leaf", &[&encode(value)])
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of("merkle/node", &[&left.0, &right.0])
}

/// How many leaves of a tree of `length >= 2` are in its left half: the largest power of two below `length`.
fn left_half(length: usize) -> usize {
    1 << length.saturating_sub(1).max(1).ilog2()
}

/// The root over `values`; of an empty list H("merkle/empty").
pub fn root<T: Encode>(values: &[T]) -> Digest {
    let leaves: Vec<Digest> = values.iter().map(leaf).collect();
    root_of(&leaves)
}

fn root_of(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of("merkle/empty", &[]),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(left_half(leaves.len()));
            node(&root_of(left), &root_of(right))
        }
    }
}

/// The siblings of leaf `index` from the bottom up; `None` when there is no such leaf.
pub fn prove<T: Encode>(values: &[T], index: usize) -> Option<Vec<Digest>> {
    if index >= values.len() {
        return None;
    }
    let leaves: Vec<Digest> = values.iter().map(leaf).collect();
    let (mut slice, mut index, mut path) = (&leaves[..], index, Vec::new());
    while slice.len() > 1 {
        let (left, right) = slice.split_at(left_half(slice.len()));
        if index < left.len() {
            path.push(root_of(right));
            slice = left;
        } else {
            path.push(root_of(left));
            index = index.saturating_sub(left.len());
            slice = right;
        }
    }
    path.reverse();
    Some(path)
}

/// Whether `value` is leaf `index` of the list of `length` leaves with this root.
pub fn verify<T: Encode>(root: &Digest, value: &T, index: usize, length: usize, proof: &[Digest]) -> bool {
    if index >= length {
        return false;
    }
    // The turns from the root down; the proof runs from the leaf up.
    let (mut turns, mut index, mut length) = (Vec::new(), index, length);
    while length > 1 {
        let half = left_half(length);
        let right = index >= half;
        turns.push(right);
        (index, length) = if right { (index.saturating_sub(half), length.saturating_sub(half)) } else { (index, half) };
    }
    if turns.len() != proof.len() {
        return false;
    }
    let start = leaf(value);
    let end = turns
        .iter()
        .rev()
        .zip(proof)
        .fold(start, |below, (right, sibling)| if *right { node(sibling, &below) } else { node(&below, sibling) });
    end == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_every_small_tree_is_proven_and_nothing_else() {
        for length in 1..=33usize {
            let values: Vec<u64> = (0..length as u64).collect();
            let root = root(&values);
            for index in 0..length {
                let proof = prove(&values, index).unwrap();
                assert!(verify(&root, &values[index], index, length, &proof));
                assert!(!verify(&root, &(values[index] + 1), index, length, &proof));
                assert!(length == 1 || !verify(&root, &values[index], (index + 1) % length, length, &proof));
                let mut longer = proof.clone();
                longer.push(Digest::default());
                assert!(!verify(&root, &values[index], index, length, &longer));
            }
            assert_eq!(prove(&values, length), None);
        }
    }

    #[test]
    fn the_root_binds_order_and_length() {
        assert_ne!(root(&[1u64, 2]), root(&[2u64, 1]));
        assert_ne!(root(&[1u64, 2]), root(&[1u64, 2, 2]));
        assert_ne!(root::<u64>(&[]), root(&[0u64]));
    }
}
