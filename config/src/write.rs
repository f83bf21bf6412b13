//! Files for people: every value that the profile decides is written out, with a few words on what it does.

use std::fmt::Write;
use std::io;
use std::path::Path;

use crate::committee::{Committee, ProtocolParameters};
use crate::load::PATHS;
use crate::parameters::NodeParameters;
use crate::settings::{NODE, PROTOCOL, Setting};
use crate::text::{Text, quoted};

/// Column at which comments begin.
const COMMENT: usize = 44;

/// Writes a committee file; an existing one is replaced.
///
/// # Errors
/// What the system says.
pub fn write_committee(path: &Path, committee: &Committee) -> io::Result<()> {
    std::fs::write(path, committee_text(committee))
}

/// Writes a node file whose paths are `../committee.toml`, `node.key` and `data`; an existing one is replaced. Written are the
/// addresses, the durability and what differs from the defaults; the rest stands there as comments.
///
/// # Errors
/// What the system says.
pub fn write_node(path: &Path, parameters: &NodeParameters) -> io::Result<()> {
    std::fs::write(path, node_text(parameters))
}

pub(crate) fn committee_text(committee: &Committee) -> String {
    let mut text = String::from(
        "# The members of this network and the rules they share: the same file at every node.\n\
         # All but the addresses is hashed into the chain id; nodes whose files differ refuse each other.\n\n",
    );
    push(&mut text, &format!("network_id = {}", quoted(&committee.network_id().show())), "");
    push(&mut text, &format!("epoch = {}", committee.epoch()), "");
    let stakes = || committee.members().iter().map(|member| member.stake);
    if committee.size() < 4 || stakes().any(|stake| stake > committee.max_faulty()) {
        push(&mut text, "development = true", "one member may stop this network");
    }
    text.push_str("\n[protocol]\n");
    settings(&mut text, PROTOCOL, committee.protocol());
    for member in committee.members() {
        text.push_str("\n[[members]]\n");
        push(&mut text, &format!("name = {}", quoted(&member.name)), "");
        push(&mut text, &format!("public_key = {}", quoted(&member.public_key.show())), "");
        push(&mut text, &format!("stake = {}", member.stake.0), "");
        push(&mut text, &format!("address = {}", quoted(&member.address)), "");
    }
    text
}

pub(crate) fn node_text(parameters: &NodeParameters) -> String {
    let mut text = String::from(
        "# What this node decides for itself. Relative paths are relative to the folder of this file.\n\
         # Every key can be given as an environment variable too: RORQUAL__BATCH__MAX_DELAY=5ms\n\
         # Lines behind a # show defaults. `rorqual config show` tells every value and where it came from.\n\n",
    );
    for (key, value, comment) in PATHS {
        push(&mut text, &format!("{key} = {}", quoted(value)), comment);
    }
    let defaults = NodeParameters::default();
    let mut section = "";
    for setting in NODE {
        if setting.section() != section {
            section = setting.section();
            let _ = writeln!(text, "\n[{section}]");
        }
        let line = setting.line(parameters);
        let written = section.is_empty() || section == "listen" || line != setting.line(&defaults);
        push(&mut text, &if written { line } else { format!("# {line}") }, setting.comment);
    }
    text
}

fn settings(text: &mut String, table: &[Setting<ProtocolParameters>], values: &ProtocolParameters) {
    for setting in table {
        push(text, &setting.line(values), setting.comment);
    }
}

/// One line, with its comment in a column of comments.
fn push(text: &mut String, line: &str, comment: &str) {
    let line = match comment {
        "" => line.to_owned(),
        _ => format!("{line:COMMENT$} # {comment}"),
    };
    text.push_str(&line);
    text.push('\n');
}
