//! Who decides, with how much weight, under which common rules; and the chain id that binds all of it.
//!
//! Every value here must be equal at every node. It stands in `committee.toml`, is hashed into the chain id, and no node
//! file, environment variable or flag can change it. Network addresses are in the same file but not in the hash: a member
//! may move without becoming another chain.

use std::fmt;
use std::time::Duration;

use bincode::{Decode, Encode};

use crate::encoding::{Digest, encode};
use crate::identity::PublicKey;

/// Largest committee: author sets are bitsets of this width.
pub const MAX_MEMBERS: usize = 128;

/// A member's place in the committee, counted from 0. Never mixes with rounds or counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct AuthorityIndex(pub u16);

impl AuthorityIndex {
    /// For indexing tables of one entry a member.
    pub fn usize(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for AuthorityIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for AuthorityIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Voting weight. Sums of a committee's stakes fit: [`Committee`] refuses a total above `u32::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Encode, Decode)]
pub struct Stake(pub u64);

impl std::ops::Add for Stake {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl std::ops::AddAssign for Stake {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl std::iter::Sum for Stake {
    fn sum<I: Iterator<Item = Self>>(stakes: I) -> Self {
        stakes.fold(Self(0), |sum, stake| sum + stake)
    }
}

/// A set of members; its stake counts each member once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct AuthoritySet(u128);

impl AuthoritySet {
    /// The empty set.
    pub const EMPTY: Self = Self(0);

    /// Adds a member; true if it was not in the set.
    pub fn insert(&mut self, authority: AuthorityIndex) -> bool {
        let bit = 1u128 << authority.0;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// Takes a member out; true if it was in the set.
    pub fn remove(&mut self, authority: AuthorityIndex) -> bool {
        let bit = 1u128 << authority.0;
        let present = self.0 & bit != 0;
        self.0 &= !bit;
        present
    }

    /// Whether the member is in the set.
    pub fn contains(&self, authority: AuthorityIndex) -> bool {
        self.0 & (1u128 << authority.0) != 0
    }

    /// Members of either set.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// How many members.
    pub fn len(&self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Members in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = AuthorityIndex> + use<> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let index = rest.trailing_zeros() as u16;
            rest &= rest - 1;
            Some(AuthorityIndex(index))
        })
    }
}

impl FromIterator<AuthorityIndex> for AuthoritySet {
    fn from_iter<I: IntoIterator<Item = AuthorityIndex>>(authorities: I) -> Self {
        let mut set = Self::EMPTY;
        for authority in authorities {
            set.insert(authority);
        }
        set
    }
}

impl fmt::Debug for AuthoritySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The digest of everything that must be equal everywhere: two nodes with different chain ids never exchange a byte.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
pub struct ChainId(pub Digest);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// For people: logs, metrics, `status`.
    pub name: String,
    /// Authenticates its links and signs its blocks.
    pub public_key: PublicKey,
    /// Voting weight, at least 1.
    pub stake: Stake,
    /// `host:port` where its peers reach it. Not part of the chain id.
    pub address: String,
}

/// The values under `[protocol]`: part of the genesis, equal everywhere, settable nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct ProtocolParameters {
    /// Leader slots in a round, 1 or 2. More than one gains nothing in measurements.
    pub leaders_per_round: u32,
    /// Rounds below the last committed leader round after which a block can no longer be committed.
    pub gc_depth: u64,
    /// Payload batches that one block may name.
    pub max_batches_per_block: u32,
    /// Sum of the sizes of the batches one block may name, in bytes.
    pub max_block_payload_bytes: u64,
    /// Largest payload batch, in bytes, tables included.
    pub max_batch_bytes: u64,
    /// Commit votes that one block may carry.
    pub max_votes_per_block: u32,
    /// Sequence numbers below the highest delivered one that are still told apart, for each author.
    pub replay_window: u64,
    /// How far above its oldest undelivered batch an author may name batches; at most half of `replay_window`.
    pub sequence_ahead: u64,
    /// Commits between two state digests in the commit chain (`aux`).
    pub checkpoint_interval: u64,
    /// Longest time, in commit time, that a submission id may live.
    pub max_lifetime: Duration,
    /// Submission ids one batch author may have alive at once.
    pub max_live_ids: u64,
    /// Largest transaction, in bytes.
    pub max_transaction_bytes: u64,
    /// Largest submission (one client frame), in bytes of transactions.
    pub max_submission_bytes: u64,
}

impl Default for ProtocolParameters {
    /// The LAN profile.
    fn default() -> Self {
        Self {
            leaders_per_round: 1,
            gc_depth: 600,
            max_batches_per_block: 32,
            max_block_payload_bytes: 2 << 20,
            max_batch_bytes: 1 << 20,
            max_votes_per_block: 16,
            replay_window: 16_384,
            sequence_ahead: 8_192,
            checkpoint_interval: 256,
            max_lifetime: Duration::from_secs(60),
            max_live_ids: 1_000_000,
            max_transaction_bytes: 128 << 10,
            max_submission_bytes: 256 << 10,
        }
    }
}

impl ProtocolParameters {
    /// The WAN profile: round trips up to 300 ms.
    pub fn wan() -> Self {
        Self { gc_depth: 60, max_block_payload_bytes: 1 << 20, ..Self::default() }
    }

    /// Payload in bytes that an author may have in blocks that are not committed: every node has room for as much of every
    /// author, so no honest author is ever refused. Sixteen full blocks: a commit comes after a few rounds.
    pub fn author_allowance_bytes(&self) -> u64 {
        self.max_block_payload_bytes.saturating_mul(16)
    }

    /// Upper bound of an encoded block of a committee of `members`, signature included.
    pub fn max_block_bytes(&self, members: usize) -> usize {
        48 * members + 48 * self.max_batches_per_block as usize + 48 * self.max_votes_per_block as usize + 512
    }
}

/// The members, the thresholds derived from their stake, and the common rules.
#[derive(Clone, Debug)]
pub struct Committee {
    epoch: u64,
    network_id: Digest,
    members: Vec<Member>,
    protocol: ProtocolParameters,
    total: Stake,
    chain_id: ChainId,
}

impl Committee {
    /// Puts a committee together. Validation with messages for people is in [`crate::load`]; this checks what the
    /// arithmetic below relies on.
    ///
    /// # Errors
    /// One sentence, where there are no members, more than [`MAX_MEMBERS`], a zero stake, or a total above `u32::MAX`.
    pub fn new(
        epoch: u64,
        network_id: Digest,
        members: Vec<Member>,
        protocol: ProtocolParameters,
    ) -> Result<Self, String> {
        if members.is_empty() || members.len() > MAX_MEMBERS {
            return Err(format!("a committee has 1 to {MAX_MEMBERS} members, not {}", members.len()));
        }
        if let Some(member) = members.iter().find(|m| m.stake.0 == 0 || m.stake.0 > u64::from(u32::MAX)) {
            return Err(format!("member `{}` has stake {}: it must be 1 to {}", member.name, member.stake.0, u32::MAX));
        }
        let total: Stake = members.iter().map(|m| m.stake).sum();
        if total.0 > u64::from(u32::MAX) {
            return Err(format!("the total stake {} exceeds {}", total.0, u32::MAX));
        }
        let keys: Vec<(PublicKey, Stake, &str)> =
            members.iter().map(|m| (m.public_key, m.stake, m.name.as_str())).collect();
        let chain_id = ChainId(Digest::of("genesis", &[&encode(&(epoch, network_id, keys, &protocol))]));
        Ok(Self { epoch, network_id, members, protocol, total, chain_id })
    }

    /// The epoch this committee serves.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Random value made with the network, so that two networks of the same members differ.
    pub fn network_id(&self) -> Digest {
        self.network_id
    }

    /// Identity of this chain.
    pub fn chain_id(&self) -> ChainId {
        self.chain_id
    }

    /// The common rules.
    pub fn protocol(&self) -> &ProtocolParameters {
        &self.protocol
    }

    /// How many members.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// All members by index.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Every index, ascending.
    pub fn authorities(&self) -> impl Iterator<Item = AuthorityIndex> + use<> {
        (0..self.members.len() as u16).map(AuthorityIndex)
    }

    /// Whether the index names a member.
    pub fn contains(&self, authority: AuthorityIndex) -> bool {
        authority.usize() < self.members.len()
    }

    /// The member at an index that [`Self::contains`] accepted.
    pub fn member(&self, authority: AuthorityIndex) -> &Member {
        &self.members[authority.usize()]
    }

    /// The index of a key.
    pub fn index_of(&self, key: &PublicKey) -> Option<AuthorityIndex> {
        self.members.iter().position(|m| m.public_key == *key).map(|i| AuthorityIndex(i as u16))
    }

    /// Stake of one member.
    pub fn stake(&self, authority: AuthorityIndex) -> Stake {
        self.members[authority.usize()].stake
    }

    /// Stake of a set of members, each counted once.
    pub fn stake_of(&self, set: &AuthoritySet) -> Stake {
        set.iter().map(|a| self.stake(a)).sum()
    }

    /// S, the stake of all.
    pub fn total(&self) -> Stake {
        self.total
    }

    /// F: the largest stake that may be faulty. With S = 3F + k, k in 1..=3, F = (S - 1) / 3.
    pub fn max_faulty(&self) -> Stake {
        Stake((self.total.0 - 1) / 3)
    }

    /// Q = S - F = floor(2S / 3) + 1. Two sets of stake Q share at least 2Q - S = S - 2F >= F + 1: an honest member.
    pub fn quorum(&self) -> Stake {
        Stake(self.total.0 - self.max_faulty().0)
    }

    /// V = F + 1: at least one honest member.
    pub fn validity(&self) -> Stake {
        Stake(self.max_faulty().0 + 1)
    }

    /// Whether the members of `set` hold a quorum.
    pub fn is_quorum(&self, set: &AuthoritySet) -> bool {
        self.stake_of(set) >= self.quorum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::KeyPair;

    fn committee(stakes: &[u64]) -> Committee {
        let members = stakes.iter().enumerate().map(|(i, s)| Member {
            name: format!("node-{i}"),
            public_key: KeyPair::from_seed([i as u8 + 1; 32]).public(),
            stake: Stake(*s),
            address: format!("127.0.0.1:{}", 9000 + i),
        });
        Committee::new(0, Digest::default(), members.collect(), ProtocolParameters::default()).unwrap()
    }

    #[test]
    fn thresholds_follow_the_formulas_of_byzantine_quorums() {
        for (n, f, q) in [(1, 0, 1), (4, 1, 3), (5, 1, 4), (6, 1, 5), (7, 2, 5), (10, 3, 7), (20, 6, 14), (100, 33, 67)]
        {
            let committee = committee(&vec![1; n]);
            assert_eq!(committee.max_faulty(), Stake(f), "n = {n}");
            assert_eq!(committee.quorum(), Stake(q), "n = {n}");
            assert_eq!(committee.quorum().0, 2 * n as u64 / 3 + 1, "n = {n}");
            assert!(2 * committee.quorum().0 - committee.total().0 >= committee.validity().0, "n = {n}");
        }
    }

    #[test]
    fn stake_counts_each_author_once() {
        let committee = committee(&[1, 2, 3, 4]);
        let set: AuthoritySet = [3, 1, 3].into_iter().map(AuthorityIndex).collect();
        assert_eq!(committee.stake_of(&set), Stake(6));
        assert_eq!(set.iter().collect::<Vec<_>>(), [AuthorityIndex(1), AuthorityIndex(3)]);
    }

    #[test]
    fn the_chain_id_binds_rules_and_keys_but_not_addresses() {
        let one = committee(&[1, 1, 1, 1]);
        let mut members = one.members().to_vec();
        members[0].address = "elsewhere:1".into();
        let moved = Committee::new(0, Digest::default(), members.clone(), ProtocolParameters::default()).unwrap();
        assert_eq!(one.chain_id(), moved.chain_id());
        let rules = ProtocolParameters { gc_depth: 61, ..ProtocolParameters::default() };
        let other = Committee::new(0, Digest::default(), members, rules).unwrap();
        assert_ne!(one.chain_id(), other.chain_id());
    }
}
