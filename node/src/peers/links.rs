//! From the configuration of a node to its links.

use rorqual_config::NodeConfig;
use rorqual_network::{Limits, LinkConfig, Peer};

/// What the links of this node need to know: everybody else, and with which key to speak.
pub fn link_config(config: &NodeConfig) -> LinkConfig {
    let committee = &config.committee;
    let peers = committee.authorities().filter(|index| *index != config.me).map(|index| {
        let member = committee.member(index);
        Peer { index, name: member.name.clone(), public_key: member.public_key, address: member.address.clone() }
    });
    LinkConfig {
        key: config.key.clone(),
        me: config.me,
        peers: peers.collect(),
        chain_id: committee.chain_id(),
        epoch: committee.epoch(),
        limits: Limits::default(),
    }
}
