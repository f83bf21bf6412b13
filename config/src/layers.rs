//! The layers of a node's configuration, merged by the `config` crate into dotted keys, each with its value and origin.

use std::collections::BTreeMap;
use std::path::Path;

use config::builder::DefaultState;
use config::{Config, ConfigBuilder, Environment, File, FileFormat, Source, Value, ValueKind};

use crate::load::{ConfigError, ConfigErrors, ENVIRONMENT_PREFIX, Origin};
use crate::parameters::Problem;
use crate::settings::NODE;
use crate::text::Form;

/// Every key that somebody gave, in alphabetical order.
pub(crate) type Layered = BTreeMap<String, (Given, Origin)>;

/// A value as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// Quoted in a file, or from the environment or a flag.
    Text(String),
    /// A number or truth value in a file.
    Plain(String),
    /// An array of texts in a file.
    List(Vec<String>),
    /// An array of anything else, or an empty section.
    Other(&'static str),
}

impl Given {
    /// The text form that a setting of this form reads.
    pub fn text(&self, form: Form) -> Result<String, String> {
        match (self, form) {
            (Self::Text(text) | Self::Plain(text), _) => Ok(text.trim().to_owned()),
            (Self::List(items), Form::List) => Ok(items.join(", ")),
            _ => Err("must be one value, not a list or a section".into()),
        }
    }

    /// As errors and listings show it.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => "\"\"".into(),
            Self::Text(text) | Self::Plain(text) => text.clone(),
            Self::List(items) => format!("[{}]", items.join(", ")),
            Self::Other(what) => (*what).into(),
        }
    }
}

/// Merges file, environment and flags; flags that are no keys are told beside. Keys are not judged otherwise.
pub(crate) fn gather(
    path: &Path,
    flags: &[(String, String)],
    env: &[(String, String)],
) -> Result<(Layered, Vec<ConfigError>), ConfigErrors> {
    let mut bad_flags = Vec::new();
    let mut builder = Config::builder();
    for (key, value) in flags {
        builder = match builder.clone().set_override(key, value.as_str()) {
            Ok(builder) => builder,
            Err(_) => {
                bad_flags.push(bad_flag(key, value));
                builder
            }
        };
    }
    let keys: Vec<&str> = flags.iter().map(|(key, _)| key.as_str()).collect();
    match merge(path, builder, &keys, env) {
        Ok(layered) => Ok((layered, bad_flags)),
        Err(ConfigErrors(errors)) => Err(ConfigErrors(errors.into_iter().chain(bad_flags).collect())),
    }
}

fn merge(
    path: &Path,
    builder: ConfigBuilder<DefaultState>,
    flags: &[&str],
    env: &[(String, String)],
) -> Result<Layered, ConfigErrors> {
    let text = read_file(path)?;
    // Parsed once more below; this one has the better message.
    parse(path, &text)?;
    // Only our variables go in: others may hold what is not for us to read.
    let env = env.iter().filter(|(name, _)| name.to_ascii_uppercase().starts_with(ENVIRONMENT_PREFIX)).cloned();
    let prefix = ENVIRONMENT_PREFIX.trim_end_matches('_');
    let environment = Environment::with_prefix(prefix).separator("__").source(Some(env.collect()));
    // From its text: a pipe is read once.
    let builder = builder.add_source(File::from_str(&text, FileFormat::Toml)).add_source(environment);
    let merged = builder.build().and_then(|merged| merged.collect());
    let merged = merged.map_err(|error| ConfigErrors::file(path, one_line(&error.to_string())))?;
    let mut layered = Layered::new();
    for (key, value) in merged {
        flatten(path, flags, key, value, &mut layered);
    }
    Ok(layered)
}

fn bad_flag(key: &str, value: &str) -> ConfigError {
    let key = if key.is_empty() { "\"\"" } else { key };
    let problem = Problem::new(key, value, "is no key: write a dotted key such as `log.filter`");
    ConfigError { location: "flag".into(), problem }
}

/// The text of a file, or one sentence that names it.
pub(crate) fn read_file(path: &Path) -> Result<String, ConfigErrors> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "there is no such file: make a cluster with `rorqual testnet`, or give the path of yours".into()
            }
            std::io::ErrorKind::InvalidData => "is not text in UTF-8: it must be a TOML file".into(),
            _ => format!("cannot be read: {error}"),
        };
        ConfigErrors::file(path, message)
    })
}

/// The content of a TOML file.
pub(crate) fn parse(path: &Path, text: &str) -> Result<toml::Table, ConfigErrors> {
    text.parse::<toml::Table>().map_err(|error: toml::de::Error| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        ConfigErrors::file(path, format!("line {line} is not TOML: {}", one_line(error.message())))
    })
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn flatten(path: &Path, flags: &[&str], key: String, value: Value, layered: &mut Layered) {
    let origin = match value.origin() {
        Some("the environment") => {
            Origin::Env(format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase()))
        }
        _ if flags.contains(&key.as_str()) => Origin::Flag,
        _ => Origin::File(path.to_owned()),
    };
    let given = match value.kind {
        ValueKind::Table(table) if table.is_empty() && NODE.iter().any(|setting| setting.section() == key) => return,
        ValueKind::Table(table) if table.is_empty() => Given::Other("an empty section"),
        ValueKind::Table(table) => {
            table.into_iter().for_each(|(name, value)| flatten(path, flags, format!("{key}.{name}"), value, layered));
            return;
        }
        ValueKind::Array(items) => list(items),
        ValueKind::String(text) => Given::Text(text),
        ValueKind::Nil => Given::Text(String::new()),
        other => Given::Plain(other.to_string()),
    };
    layered.insert(key, (given, origin));
}

fn list(items: Vec<Value>) -> Given {
    let text = |item: Value| match item.kind {
        ValueKind::String(text) => Some(text),
        _ => None,
    };
    items.into_iter().map(text).collect::<Option<_>>().map_or(Given::Other("a list"), Given::List)
}
