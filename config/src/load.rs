//! Files, environment and flags in layers; every error at once; the origin of every value.
//!
//! Defaults < `node.toml` < environment `RORQUAL__SECTION__KEY` < flags. The committee file has one layer only: no environment
//! variable or flag can change what must be equal everywhere. Relative paths, wherever they were given, are relative to the
//! folder of `node.toml`; of a pipe, to the current one.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::committee::{AuthorityIndex, Committee};
use crate::identity::KeyPair;
use crate::layers::{self, Given, Layered};
use crate::parameters::{NodeParameters, Problem};
use crate::settings::{NODE, PROTOCOL};
use crate::text::{nearest, quoted};

pub use crate::committee_file::load_committee;
pub use crate::settings::reference;
pub use crate::write::{write_committee, write_node};

/// What every variable of ours begins with.
pub const ENVIRONMENT_PREFIX: &str = "RORQUAL__";

/// The paths a node file must give: key, example, meaning.
pub(crate) const PATHS: [(&str, &str, &str); 3] = [
    ("committee", "../committee.toml", "The committee file: members and common rules"),
    ("key", "node.key", "This node's secret key: mode 0600; of root, 0640 too"),
    ("data", "data", "The data directory, made by `rorqual testnet` or `rorqual init`"),
];

/// All a node needs to know before it starts.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The members and the common rules.
    pub committee: Committee,
    /// This node's place among them.
    pub me: AuthorityIndex,
    /// This node's identity.
    pub key: KeyPair,
    /// Where this node keeps its state.
    pub data_dir: PathBuf,
    /// What this node decides for itself.
    pub parameters: NodeParameters,
    /// Where every value came from.
    pub origins: Origins,
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Env(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// One value and where it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The dotted key.
    pub key: String,
    /// The value in text form.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Every value and where it came from, in the order of the reference.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origins(Vec<Entry>);

impl Origins {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// The entry of a dotted key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }
}

/// One thing that is wrong: where it was written, which key and value, and the remedy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The file, variable or flag.
    pub location: String,
    /// The key, its value and the remedy; the key is empty where the whole file is meant.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem.key.is_empty() {
            true => write!(f, "{}: {}", self.location, self.problem.message),
            false => write!(f, "{}: {}", self.location, self.problem),
        }
    }
}

/// Everything that is wrong, one line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// One problem with a whole file.
    pub(crate) fn file(path: &Path, message: impl Into<String>) -> Self {
        Self(vec![ConfigError { location: path.display().to_string(), problem: Problem::new("", "", message) }])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The variables of this process that are ours.
pub fn environment() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| name.to_ascii_uppercase().starts_with(ENVIRONMENT_PREFIX)).collect()
}

/// Reads a node's configuration: `path` is its `node.toml`, `flags` are dotted keys with values in text form, `env` is usually
/// [`environment`].
///
/// # Errors
/// Everything that is wrong with the node file, the environment, the flags, the committee file and the key file, at once.
pub fn load_node(
    path: &Path,
    flags: &[(String, String)],
    env: &[(String, String)],
) -> Result<NodeConfig, ConfigErrors> {
    let (layered, errors) = layers::gather(path, flags, env)?;
    let mut loader = Loader { path, errors, layered };
    let parameters = loader.parameters();
    let [committee_path, key_path, data_dir] = PATHS.map(|(key, example, _)| loader.path(key, example));
    let committee = committee_path.and_then(|path| loader.committee(&path));
    let key = key_path.as_ref().and_then(|path| loader.key(path));
    let problems = match &committee {
        Some(committee) => parameters.validate(committee),
        None => parameters.validate_alone(),
    };
    for problem in problems {
        // A value that was not understood is reported once; its default stands in for it here.
        if !loader.errors.iter().any(|error| error.problem.key == problem.key) {
            loader.report(problem);
        }
    }
    let me = match (&committee, &key) {
        (Some(committee), Some(key)) => loader.me(committee, key),
        _ => None,
    };
    let origins = loader.origins(&parameters, committee.as_ref());
    match (committee, me, key, data_dir, loader.errors) {
        (Some(committee), Some(me), Some(key), Some(data_dir), errors) if errors.is_empty() => {
            Ok(NodeConfig { committee, me, key, data_dir, parameters, origins })
        }
        (.., errors) => Err(ConfigErrors(errors)),
    }
}

/// The layers of one node and what was found wrong so far.
struct Loader<'a> {
    path: &'a Path,
    layered: Layered,
    errors: Vec<ConfigError>,
}

impl Loader<'_> {
    /// The folder of the node file; of a pipe, or of /dev/stdin whatever it is, the current one.
    fn folder(&self) -> &Path {
        let handed_over = self.path.starts_with("/dev") || self.path.starts_with("/proc");
        if handed_over || self.path.metadata().is_ok_and(|facts| !facts.is_file()) {
            return Path::new("");
        }
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Where the value of a key was written; for a default, the file where it can be set.
    fn location(&self, key: &str) -> String {
        match self.layered.get(key).map(|(_, origin)| origin) {
            Some(Origin::Env(name)) => format!("environment variable {name}"),
            Some(Origin::Flag) => "flag".to_owned(),
            _ => self.path.display().to_string(),
        }
    }

    fn report(&mut self, mut problem: Problem) {
        if !problem.value.is_empty() && !self.layered.contains_key(&problem.key) {
            problem.value.push_str(" (default)");
        }
        self.errors.push(ConfigError { location: self.location(&problem.key), problem });
    }

    /// Reads every value that was given into the defaults.
    fn parameters(&mut self) -> NodeParameters {
        let mut parameters = NodeParameters::default();
        let mut problems = Vec::new();
        for (key, (given, _)) in &self.layered {
            if PATHS.iter().any(|(path, ..)| path == key) {
                continue;
            }
            let result = match NODE.iter().find(|setting| setting.key == key) {
                Some(setting) => given.text(setting.form).and_then(|text| (setting.read)(&mut parameters, &text)),
                None => Err(unknown(key, given)),
            };
            if let Err(message) = result {
                problems.push(Problem::new(key, given.shown(), message));
            }
        }
        problems.into_iter().for_each(|problem| self.report(problem));
        parameters
    }

    /// A path, relative to the node file.
    fn path(&mut self, key: &str, example: &str) -> Option<PathBuf> {
        let text = match self.layered.get(key) {
            Some((Given::Text(text), _)) if !text.is_empty() => Ok(text),
            Some((given, _)) => Err((given.shown(), format!("must be a path: write {key} = {}", quoted(example)))),
            None => Err((String::new(), format!("is missing: add {key} = {}", quoted(example)))),
        };
        match text {
            Ok(text) => Some(join(self.folder(), text)),
            Err((value, message)) => {
                self.report(Problem::new(key, value, message));
                None
            }
        }
    }

    fn committee(&mut self, path: &Path) -> Option<Committee> {
        if !path.exists() {
            let message = "there is no such file: give the path of the committee file that all nodes share";
            self.report(Problem::new("committee", path.display().to_string(), message));
            return None;
        }
        load_committee(path).map_err(|errors| self.errors.extend(errors.0)).ok()
    }

    fn key(&mut self, path: &Path) -> Option<KeyPair> {
        if !path.exists() {
            let message =
                "there is no such file: make a key with `rorqual keygen --output FILE`, or give the path of yours";
            self.report(Problem::new("key", path.display().to_string(), message));
            return None;
        }
        let key = KeyPair::load(path);
        key.map_err(|error| self.report(Problem::new("key", path.display().to_string(), error.to_string()))).ok()
    }

    fn me(&mut self, committee: &Committee, key: &KeyPair) -> Option<AuthorityIndex> {
        let me = committee.index_of(&key.public());
        if me.is_none() {
            let value = self.layered.get("key").map_or_else(String::new, |(given, _)| given.shown());
            let message = format!(
                "its public key {} is no member's: use the key file of a member, or put this public key into the committee file",
                key.public()
            );
            self.report(Problem::new("key", value, message));
        }
        me
    }

    fn origins(&self, parameters: &NodeParameters, committee: Option<&Committee>) -> Origins {
        let origin = |key: &str| self.layered.get(key).map_or(Origin::Default, |(_, origin)| origin.clone());
        let entry = |key: &str, value: String, origin| Entry { key: key.to_owned(), value, origin };
        let given = |key: &str| self.layered.get(key).map_or_else(String::new, |(given, _)| given.shown());
        let mut entries: Vec<_> = PATHS.iter().map(|(key, ..)| entry(key, given(key), origin(key))).collect();
        entries.extend(NODE.iter().map(|s| entry(s.key, (s.show)(parameters), origin(s.key))));
        if let Some(committee) = committee {
            let file = || Origin::File(join(self.folder(), &given("committee")));
            entries.push(entry("network_id", committee.network_id().to_string(), file()));
            entries.push(entry("epoch", committee.epoch().to_string(), file()));
            entries.extend(PROTOCOL.iter().map(|s| entry(s.key, (s.show)(committee.protocol()), file())));
        }
        Origins(entries)
    }
}

/// A path relative to a folder, without the `..` that say nothing: those behind a folder that is no symbolic link.
fn join(folder: &Path, text: &str) -> PathBuf {
    let mut path = folder.to_owned();
    for component in Path::new(text).components() {
        let plain = || path.file_name().is_some() && !path.is_symlink();
        if component == Component::ParentDir && plain() {
            path.pop();
        } else if component != Component::CurDir {
            path.push(component);
        }
    }
    path
}

/// Why a key of the node file is none.
fn unknown(key: &str, given: &Given) -> String {
    if let Some(rule) = PROTOCOL.iter().find(|rule| rule.key == key || rule.name() == key) {
        return format!(
            "must be equal at all nodes: remove it here; it stands as `{}` under [protocol] in the committee file",
            rule.name()
        );
    }
    if NODE.iter().any(|setting| setting.section() == key) {
        return format!("is a section: write [{key}] and its keys below");
    }
    let known = NODE.iter().map(|setting| setting.key).chain(PATHS.map(|(key, ..)| key));
    match nearest(key, known) {
        Some(near) if !matches!(given, Given::Other(_)) => format!("is no known key: did you mean `{near}`?"),
        _ => "is no known key: remove it".into(),
    }
}
