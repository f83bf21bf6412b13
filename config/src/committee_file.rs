//! The committee file: one layer, no defaults. Every rule is written out, so that a new version of the program cannot change
//! the rules of an old network.

use std::path::Path;

use toml::{Table, Value};

use crate::committee::{Committee, Member, ProtocolParameters, Stake};
use crate::encoding::Digest;
use crate::identity::PublicKey;
use crate::layers::{parse, read_file};
use crate::load::{ConfigError, ConfigErrors};
use crate::parameters::Problem;
use crate::settings::{PROTOCOL, toml_form};
use crate::text::{Text, nearest};
use crate::validate;

const TOP: [&str; 5] = ["network_id", "epoch", "development", "protocol", "members"];
const MEMBER: [&str; 4] = ["name", "public_key", "stake", "address"];

/// Reads and checks a committee file.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn load_committee(path: &Path) -> Result<Committee, ConfigErrors> {
    let table = parse(path, &read_file(path)?)?;
    let mut reader = Reader { problems: Vec::new() };
    reader.unknown(&table, "", &TOP);
    let network_id: Option<Digest> = reader.value(&table, "", "network_id", "\"64 random hex digits\"");
    let epoch: Option<u64> = reader.value(&table, "", "epoch", "0");
    let development = match table.contains_key("development") {
        true => reader.value(&table, "", "development", "true").unwrap_or_default(),
        false => false,
    };
    let protocol = reader.protocol(&table);
    let members = reader.members(&table);
    if let Some(members) = &members {
        reader.problems.extend(validate::members(members, development));
    }
    if let Some(protocol) = &protocol {
        // The values were read, so that the file names as many members as there are tables.
        let count = table.get("members").and_then(Value::as_array).map_or(0, Vec::len);
        reader.problems.extend(validate::protocol(protocol, count));
    }
    let location = path.display().to_string();
    let errors =
        reader.problems.into_iter().map(|problem| ConfigError { location: location.clone(), problem }).collect();
    match (network_id, epoch, protocol, members, ConfigErrors(errors)) {
        (Some(network_id), Some(epoch), Some(protocol), Some(members), errors) if errors.0.is_empty() => {
            Committee::new(epoch, network_id, members, protocol).map_err(|message| ConfigErrors::file(path, message))
        }
        (.., errors) => Err(errors),
    }
}

struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn problem(&mut self, key: impl Into<String>, value: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(key, value, message));
    }

    /// Reports every key of the table that is not known.
    fn unknown(&mut self, table: &Table, prefix: &str, known: &[&str]) {
        for (key, value) in table.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let message = match nearest(key, known.iter().copied()) {
                Some(near) => format!("is no known key: did you mean `{near}`?"),
                None => "is no known key: remove it".into(),
            };
            self.problem(format!("{prefix}{key}"), text(value).unwrap_or_default(), message);
        }
    }

    /// Reads one value, which must be there. `example` is shown where it is not.
    fn value<T: Text>(&mut self, table: &Table, prefix: &str, key: &str, example: &str) -> Option<T> {
        let full = format!("{prefix}{key}");
        let Some(value) = table.get(key) else {
            self.problem(full, "", format!("is missing: add {key} = {example}"));
            return None;
        };
        let Some(text) = text(value) else {
            self.problem(full, "", format!("must be one value: write {key} = {example}"));
            return None;
        };
        T::read(text.trim()).map_err(|message| self.problem(full, shown(&text), message)).ok()
    }

    /// Reads `[protocol]`; none if any rule is missing or malformed.
    fn protocol(&mut self, table: &Table) -> Option<ProtocolParameters> {
        let before = self.problems.len();
        let section = match table.get("protocol") {
            Some(Value::Table(section)) => section,
            Some(value) => {
                self.problem(
                    "protocol",
                    text(value).unwrap_or_default(),
                    "must be a section: write [protocol] and the rules below",
                );
                return None;
            }
            None => {
                self.problem("protocol", "", "is missing: add the section [protocol] with all rules");
                return None;
            }
        };
        let names: Vec<_> = PROTOCOL.iter().map(|rule| rule.name()).collect();
        self.unknown(section, "protocol.", &names);
        let mut rules = ProtocolParameters::default();
        for rule in PROTOCOL {
            let example = toml_form(rule.form, &(rule.show)(&ProtocolParameters::default()));
            if let Some(text) = self.value::<String>(section, "protocol.", rule.name(), &example)
                && let Err(message) = (rule.read)(&mut rules, &text)
            {
                self.problem(rule.key, shown(&text), message);
            }
        }
        (self.problems.len() == before).then_some(rules)
    }

    /// Reads `[[members]]`; none if any value is missing or malformed.
    fn members(&mut self, table: &Table) -> Option<Vec<Member>> {
        let before = self.problems.len();
        let Some(Value::Array(tables)) = table.get("members") else {
            self.problem("members", "", "there are none: add a [[members]] table for each node");
            return None;
        };
        let members = tables.iter().enumerate().map(|(index, table)| self.member(index, table)).collect();
        match self.problems.len() == before {
            true => members,
            false => None,
        }
    }

    fn member(&mut self, index: usize, value: &Value) -> Option<Member> {
        let Value::Table(table) = value else {
            self.problem(format!("members[{index}]"), text(value).unwrap_or_default(), "must be a [[members]] table");
            return None;
        };
        let prefix = format!("members[{index}].");
        self.unknown(table, &prefix, &MEMBER);
        let name = self.value(table, &prefix, "name", &format!("\"node-{index}\""));
        let public_key: Option<PublicKey> = self.value(table, &prefix, "public_key", "\"64 hex digits\"");
        let stake = self.value(table, &prefix, "stake", "1").map(Stake);
        let address = self.value(table, &prefix, "address", "\"HOST:PORT\"");
        Some(Member { name: name?, public_key: public_key?, stake: stake?, address: address? })
    }
}

/// The text form of a single value.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Table(_) => None,
        other => Some(other.to_string()),
    }
}

fn shown(text: &str) -> String {
    if text.is_empty() { "\"\"".into() } else { text.to_owned() }
}
