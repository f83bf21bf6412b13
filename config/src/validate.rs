//! What values must be, alone and together. Every rule says what is wrong and what to do about it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::committee::{Committee, Member, ProtocolParameters};
use crate::parameters::{NodeParameters, Problem};
use crate::settings::{NODE, PROTOCOL, Setting};
use crate::text::{Bytes, Text, quoted};

/// What a submission of one transaction adds to a batch beside its bytes: counts (8), ticket and count (28), one end (4).
pub(crate) const TABLE_BYTES: u64 = 40;

const MIB: u64 = 1 << 20;

/// Fewest members that tolerate one faulty one.
const MIN_MEMBERS: usize = 4;

/// Collects problems with the values of one table of keys.
struct Checks<'a, T: 'static> {
    values: &'a T,
    table: &'static [Setting<T>],
    problems: Vec<Problem>,
}

impl<T> Checks<'_, T> {
    /// Reports `key` unless `fine`.
    fn require(&mut self, fine: bool, key: &str, message: impl FnOnce() -> String) {
        if !fine {
            let value = self.table.iter().find(|s| s.key == key).map_or_else(String::new, |s| (s.show)(self.values));
            self.problems.push(Problem::new(key, value, message()));
        }
    }

    /// Reports `key` unless `value` is in the range.
    fn range(&mut self, key: &str, value: u64, least: u64, most: u64) {
        self.require((least..=most).contains(&value), key, || format!("must be {least} to {most}"));
    }

    /// Reports `key` unless it lasts.
    fn positive(&mut self, key: &str, value: Duration) {
        self.require(!value.is_zero(), key, || "must be longer than zero".into());
    }
}

/// What is wrong with the common rules of a committee of `members`.
pub(crate) fn protocol(rules: &ProtocolParameters, members: usize) -> Vec<Problem> {
    let mut checks = Checks { values: rules, table: PROTOCOL, problems: Vec::new() };
    let size = |bytes: u64| Bytes(bytes).show();
    checks.range("protocol.leaders_per_round", rules.leaders_per_round.into(), 1, 2);
    checks.require(rules.gc_depth > 16 && rules.gc_depth <= 100_000, "protocol.gc_depth", || {
        "must be 17 to 100000: late blocks need more than 16 rounds to be ordered".into()
    });
    checks.range("protocol.max_batches_per_block", rules.max_batches_per_block.into(), 1, 1_024);
    checks.range("protocol.max_votes_per_block", rules.max_votes_per_block.into(), members.max(1) as u64, 1_024);
    checks.require(
        rules.max_submission_bytes.saturating_add(TABLE_BYTES) <= rules.max_batch_bytes,
        "protocol.max_submission_bytes",
        || format!("does not fit a batch with its table of {TABLE_BYTES} bytes: use at most {}, or raise protocol.max_batch_bytes",
            size(rules.max_batch_bytes.saturating_sub(TABLE_BYTES))),
    );
    checks.require(rules.max_batch_bytes <= 16 * MIB, "protocol.max_batch_bytes", || "must be at most 16 MiB".into());
    checks.require(rules.max_block_payload_bytes >= rules.max_batch_bytes, "protocol.max_block_payload_bytes", || {
        format!("is less than one batch (protocol.max_batch_bytes): use at least {}", size(rules.max_batch_bytes))
    });
    checks.require(rules.max_transaction_bytes > 0, "protocol.max_transaction_bytes", || "must be at least 1 B".into());
    checks.require(rules.max_transaction_bytes <= rules.max_submission_bytes, "protocol.max_transaction_bytes", || {
        format!(
            "is more than a submission (protocol.max_submission_bytes): use at most {}",
            size(rules.max_submission_bytes)
        )
    });
    checks.range("protocol.replay_window", rules.replay_window, 2, 1 << 24);
    checks.require(rules.sequence_ahead > 0, "protocol.sequence_ahead", || "must be at least 1".into());
    checks.require(rules.sequence_ahead <= rules.replay_window / 2, "protocol.sequence_ahead", || {
        format!("is more than half of protocol.replay_window: use at most {}", rules.replay_window / 2)
    });
    checks.range("protocol.checkpoint_interval", rules.checkpoint_interval, 1, 1_000_000);
    checks.range("protocol.max_live_ids", rules.max_live_ids, 1, 100_000_000);
    let lifetime = rules.max_lifetime;
    checks.require(
        lifetime >= Duration::from_secs(1) && lifetime <= Duration::from_secs(86_400),
        "protocol.max_lifetime",
        || "must be 1s to 1day".into(),
    );
    checks.problems
}

/// What is wrong with the members. `development` permits committees that tolerate no fault.
pub(crate) fn members(members: &[Member], development: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let count = members.len();
    if count > crate::committee::MAX_MEMBERS {
        let most = crate::committee::MAX_MEMBERS;
        problems.push(Problem::new("members", count.to_string(), format!("a committee has at most {most} members")));
    } else if count < MIN_MEMBERS && !development {
        problems.push(Problem::new(
            "members",
            count.to_string(),
            "fewer than 4 members tolerate no fault: add members, or write `development = true` at the top of the file",
        ));
    }
    for (index, member) in members.iter().enumerate() {
        let key = |name: &str| format!("members[{index}].{name}");
        let earlier = |same: &dyn Fn(&Member) -> bool| members[..index].iter().position(same);
        if let Some(first) = earlier(&|m| m.name == member.name) {
            problems.push(Problem::new(
                key("name"),
                &member.name,
                format!("is the name of members[{first}] too: choose another"),
            ));
        }
        if let Some(first) = earlier(&|m| m.public_key == member.public_key) {
            let message = format!("is the key of members[{first}] too: every member needs its own (`rorqual keygen`)");
            problems.push(Problem::new(key("public_key"), member.public_key.show(), message));
        } else if !member.public_key.is_strong() {
            let message = "is not a point on the curve, or of small order, and could not sign safely: make a key with `rorqual keygen`";
            problems.push(Problem::new(key("public_key"), member.public_key.show(), message));
        }
        if let Some(first) = earlier(&|m| same_address(&m.address, &member.address)) {
            let message = format!("is the address of members[{first}] too: every member needs its own");
            problems.push(Problem::new(key("address"), &member.address, message));
        }
        if let Err(message) = address(&member.address) {
            problems.push(Problem::new(key("address"), &member.address, message));
        }
        let letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if member.name.is_empty() || member.name.len() > 64 || !member.name.chars().all(letter) {
            problems.push(Problem::new(
                key("name"),
                quoted(&member.name),
                "must be 1 to 64 letters, digits, `.`, `_` or `-`",
            ));
        }
    }
    problems.extend(stake(members, development));
    problems
}

fn stake(members: &[Member], development: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let limit = u64::from(u32::MAX);
    for (index, member) in members.iter().enumerate().filter(|(_, m)| !(1..=limit).contains(&m.stake.0)) {
        let message = format!("must be 1 to {limit}");
        problems.push(Problem::new(format!("members[{index}].stake"), member.stake.0.to_string(), message));
    }
    let total: u128 = members.iter().map(|m| u128::from(m.stake.0)).sum();
    if problems.is_empty() && total > u128::from(limit) {
        let message = format!("the total stake must be at most {limit}: scale all stakes down");
        problems.push(Problem::new("members", total.to_string(), message));
    }
    if !problems.is_empty() || development || members.len() < MIN_MEMBERS {
        return problems;
    }
    let tolerated = (total - 1) / 3;
    for (index, member) in members.iter().enumerate().filter(|(_, m)| u128::from(m.stake.0) > tolerated) {
        let message = format!(
            "of {total} is more than the {tolerated} that may be faulty, so that this one member can stop everybody: lower it, \
             or write `development = true` at the top of the file"
        );
        problems.push(Problem::new(format!("members[{index}].stake"), member.stake.0.to_string(), message));
    }
    problems
}

/// Whether two texts name one address, in whatever way they are written. Names are not looked up.
fn same_address(one: &str, other: &str) -> bool {
    let canonical = |text: &str| match text.parse::<SocketAddr>() {
        Ok(address) => address.to_string(),
        // The root of all names may stand behind a host name or not.
        Err(_) => text.to_ascii_lowercase().replace(".:", ":"),
    };
    canonical(one) == canonical(other)
}

/// `host:port`, where the host may be a name.
fn address(text: &str) -> Result<(), String> {
    let example = "write HOST:PORT, for example \"10.0.0.1:9600\" or \"node-0.example.org:9600\"";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match () {
            () if address.ip().is_unspecified() => Err(format!("no peer can dial an unspecified address: {example}")),
            () if address.port() == 0 => Err(format!("no peer can dial port 0: {example}")),
            () => Ok(()),
        };
    }
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
    match text.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && host.chars().all(name) && port.parse::<u16>().is_ok_and(|port| port > 0) =>
        {
            Ok(())
        }
        _ => Err(format!("is not an address: {example}")),
    }
}

impl NodeParameters {
    /// Everything that is wrong with these values on this committee.
    pub fn validate(&self, committee: &Committee) -> Vec<Problem> {
        let mut checks = Checks { values: self, table: NODE, problems: self.validate_alone() };
        checks.room_for_submissions(committee.protocol());
        checks.room_for_blocks(committee);
        checks.room_for_batches(committee.protocol());
        checks.problems
    }

    /// The part of [`Self::validate`] that needs no committee.
    pub(crate) fn validate_alone(&self) -> Vec<Problem> {
        let mut checks = Checks { values: self, table: NODE, problems: Vec::new() };
        checks.listen();
        checks.clients();
        checks.timing();
        checks.counts();
        checks.require(filter(&self.log.filter), "log.filter", || {
            "is not a filter: write error, warn, info, debug, trace or off, or parts like `info,rorqual_node=debug`"
                .into()
        });
        checks.problems
    }
}

impl Checks<'_, NodeParameters> {
    fn listen(&mut self) {
        let listen = &self.values.listen;
        let all = [("listen.peer", listen.peer), ("listen.client", listen.client), ("listen.http", listen.http)];
        for name in &listen.http_names {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            self.require(plain && name.len() <= 253, "listen.http_names", || {
                "are host names alone, without port or wildcard: write [\"node-0.example.org\"]".into()
            });
        }
        for (index, (key, address)) in all.iter().enumerate() {
            self.require(address.port() != 0, key, || "nobody could find port 0: choose a port".into());
            let clash = all[..index].iter().find(|(_, other)| {
                let anywhere = address.ip().is_unspecified() || other.ip().is_unspecified();
                other.port() == address.port() && (other.ip() == address.ip() || anywhere)
            });
            let message = || format!("uses the port of {}: choose another", clash.map_or("", |(key, _)| key));
            self.require(clash.is_none() || address.port() == 0, key, message);
        }
    }

    fn clients(&mut self) {
        let (values, client) = (self.values, &self.values.client);
        self.require(values.listen.client.ip().is_loopback() || client.open, "listen.client", || {
            "is not loopback, and TLS for clients is not built yet: use 127.0.0.1, or set client.open = true to let anybody \
             who reaches it submit and read"
                .into()
        });
        self.range("client.max_connections", client.max_connections as u64, 1, 100_000);
        self.require(
            client.max_bytes_in_flight >= client.max_bytes_per_connection,
            "client.max_bytes_in_flight",
            || "is less than client.max_bytes_per_connection: raise it or lower the other".into(),
        );
        self.positive("client.retry_hint", client.retry_hint);
    }

    fn room_for_submissions(&mut self, rules: &ProtocolParameters) {
        let client = &self.values.client;
        let largest = rules.max_submission_bytes.saturating_add(TABLE_BYTES);
        self.require(client.max_bytes_per_connection >= largest, "client.max_bytes_per_connection", || {
            format!(
                "has no room for one submission of protocol.max_submission_bytes: use at least {}",
                Bytes(largest).show()
            )
        });
    }

    fn timing(&mut self) {
        let consensus = &self.values.consensus;
        for (key, value) in [
            ("consensus.delay_bound", consensus.delay_bound),
            ("consensus.leader_timeout", consensus.leader_timeout),
            ("consensus.payload_grace", consensus.payload_grace),
            ("consensus.settle", consensus.settle),
            ("consensus.min_round_delay", consensus.min_round_delay),
            ("consensus.push_delay_min", consensus.push_delay_min),
            ("batch.max_delay", self.values.batch.max_delay),
        ] {
            self.positive(key, value);
        }
        let least = consensus.delay_bound.saturating_mul(2);
        self.require(consensus.leader_timeout >= least, "consensus.leader_timeout", || {
            format!("is less than twice consensus.delay_bound: use at least {}", least.show())
        });
        self.require(consensus.leader_timeout_cap >= consensus.leader_timeout, "consensus.leader_timeout_cap", || {
            "is less than consensus.leader_timeout: raise it".into()
        });
        self.require(
            consensus.payload_grace < consensus.delay_bound || consensus.delay_bound.is_zero(),
            "consensus.payload_grace",
            || "must be shorter than consensus.delay_bound, which contains it".into(),
        );
        self.require(consensus.round_burst >= consensus.min_round_delay, "consensus.round_burst", || {
            "is less than consensus.min_round_delay, so that no block could ever be made: raise it".into()
        });
        self.require(consensus.idle_delay >= consensus.min_round_delay, "consensus.idle_delay", || {
            "is less than consensus.min_round_delay: raise it".into()
        });
    }

    fn counts(&mut self) {
        let (consensus, store) = (&self.values.consensus, &self.values.store);
        let many = u64::from(u32::MAX);
        self.range("consensus.mute_after", consensus.mute_after, 1, many);
        self.range("consensus.uncommitted_cap", consensus.uncommitted_cap, 1, many);
        self.range("consensus.solid_lag", consensus.solid_lag, 1, many);
        self.range("consensus.propagation_limit", consensus.propagation_limit, 1, many);
        self.range("consensus.max_suspended_blocks", consensus.max_suspended_blocks as u64, 1, 1_000_000);
        self.range("consensus.blocks_per_second", consensus.blocks_per_second.into(), 1, 1_000_000);
        self.range("consensus.catch_up_batch", consensus.catch_up_batch.into(), 1, 10_000);
        self.range("consensus.catch_up_parallel", consensus.catch_up_parallel as u64, 1, 1_000);
        self.range("consensus.catch_up_ahead", consensus.catch_up_ahead as u64, 1, 10_000);
        self.require(self.values.batch.max_bytes >= 1_024, "batch.max_bytes", || "must be at least 1 KiB".into());
        for (key, value) in [
            ("store.block_cache_bytes", store.block_cache_bytes),
            ("store.write_buffer_bytes", store.write_buffer_bytes),
        ] {
            self.require(value >= MIB, key, || "must be at least 1 MiB".into());
        }
        self.range("store.reader_threads", store.reader_threads as u64, 1, 256);
        let reserve = store.min_free_bytes;
        self.require(reserve == 0 || reserve >= MIB, "store.min_free_bytes", || {
            "must be at least 1 MiB, or 0 for no reserve".into()
        });
        let least = reserve.saturating_mul(4);
        self.require(store.quota_bytes == 0 || store.quota_bytes >= least, "store.quota_bytes", || {
            format!(
                "leaves no room beside store.min_free_bytes: use at least {}, or 0 for no quota",
                Bytes(least).show()
            )
        });
    }

    fn room_for_blocks(&mut self, committee: &Committee) {
        let (consensus, rules) = (&self.values.consensus, committee.protocol());
        self.require(consensus.max_ahead >= rules.gc_depth, "consensus.max_ahead", || {
            let margin = crate::parameters::AHEAD_MARGIN;
            format!("is less than protocol.gc_depth: use {} or so", rules.gc_depth.saturating_add(margin))
        });
        let block = rules.max_block_bytes(committee.size()) as u64;
        self.require(consensus.max_suspended_bytes >= block, "consensus.max_suspended_bytes", || {
            format!("has no room for one block: use at least {}", Bytes(block).show())
        });
        let batch = rules.max_batch_bytes;
        self.require(consensus.max_unsettled_bytes >= batch, "consensus.max_unsettled_bytes", || {
            format!("has no room for one batch of protocol.max_batch_bytes: use at least {}", Bytes(batch).show())
        });
    }

    fn room_for_batches(&mut self, rules: &ProtocolParameters) {
        let (batch, store) = (&self.values.batch, &self.values.store);
        let size = |bytes: u64| Bytes(bytes).show();
        self.require(batch.max_bytes <= rules.max_batch_bytes, "batch.max_bytes", || {
            format!(
                "is more than protocol.max_batch_bytes, so that peers refuse it: use at most {}",
                size(rules.max_batch_bytes)
            )
        });
        let quota = self.values.consensus.author_quota_bytes;
        self.require(quota >= rules.author_allowance_bytes(), "batch.author_quota_bytes", || {
            format!(
                "has no room for the 16 full blocks that an author may have before a commit: use at least {}",
                size(rules.author_allowance_bytes())
            )
        });
        for (key, value) in
            [("store.queue_bytes", store.queue_bytes), ("store.payload_cache_bytes", store.payload_cache_bytes)]
        {
            let least = rules.max_block_payload_bytes;
            self.require(value >= least, key, || {
                format!("has no room for the payload of one block: use at least {}", size(least))
            });
        }
    }
}

/// Whether every part is a level, or a target and a level. A bare target is refused: it is most often a mistyped level.
fn filter(text: &str) -> bool {
    let level = |word: &str| {
        ["error", "warn", "info", "debug", "trace", "off"].contains(&word.trim().to_ascii_lowercase().as_str())
    };
    text.split(',').all(|part| match part.rsplit_once('=') {
        _ if part.contains('[') => true,
        Some((target, word)) => !target.trim().is_empty() && level(word),
        None => level(part),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_recognised_however_it_is_written() {
        assert!(same_address("[::1]:9600", "[0:0::1]:9600"));
        assert!(same_address("Node-0.example.org:9600", "node-0.example.org.:9600"));
        assert!(!same_address("node-0:9600", "node-0:9601"));
        assert!(!same_address("127.0.0.1:9600", "127.0.0.2:9600"));
    }
}
