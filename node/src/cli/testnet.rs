//! `rorqual testnet`: a committee and one directory per node, for a cluster on this machine.

mod ports;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use rorqual_config::committee::MAX_MEMBERS;
use rorqual_config::load::{load_node, write_committee, write_node};
use rorqual_config::parameters::Listen;
use rorqual_config::{
    Committee, Digest, Durability, KeyPair, Member, NodeParameters, ProtocolParameters, Stake, shell,
};
use serde_json::{Value, json};

use super::CliError;
use super::error::print;
use super::keygen::from_key_file;

/// Arguments of `rorqual testnet`.
#[derive(clap::Args)]
pub struct Args {
    /// How many nodes; fewer than 4 tolerate no fault
    #[arg(long, default_value_t = 4)]
    nodes: usize,
    /// Directory for the committee and the nodes; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    output_dir: PathBuf,
    /// Node i gets the ports P + 4i (peers), + 1 (clients), + 2 (http); without it, free ones are found
    #[arg(long, value_name = "P")]
    base_port: Option<u16>,
    /// For round trips up to 2 ms (lan) or 300 ms (wan)
    #[arg(long, value_enum, default_value_t = Profile::Lan)]
    profile: Profile,
    /// When a write that peers rely on is done: on disk (synced), or handed to the system (os)
    #[arg(long, default_value_t = Durability::Synced)]
    durability: Durability,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Profile {
    /// Round trips up to 2 ms.
    Lan,
    /// Round trips up to 300 ms.
    Wan,
}

/// One node that was made.
struct Made {
    name: String,
    directory: PathBuf,
    key: KeyPair,
    listen: Listen,
}

/// Makes everything and prints every address.
///
/// # Errors
/// Where the directory is not empty, ports are not to be had, or files cannot be written.
pub fn run(args: Args) -> Result<(), CliError> {
    if args.nodes == 0 || args.nodes > MAX_MEMBERS {
        return Err(CliError::usage(format!("--nodes {}: must be 1 to {MAX_MEMBERS}", args.nodes)));
    }
    refuse_occupied(&args.output_dir)?;
    let base = match args.base_port {
        Some(base) => ports::check(base, args.nodes)?,
        None => ports::find(args.nodes)?,
    };
    let nodes = (0..args.nodes).map(|index| plan(&args.output_dir, base, index)).collect::<Result<Vec<_>, _>>()?;
    let committee = committee(&nodes, args.profile)?;
    write(&args, &nodes, &committee).map_err(|error| CliError {
        message: format!("{error}; remove {} before you try again", args.output_dir.display()),
        ..error
    })?;
    match args.json {
        true => print(&summary_json(&args, &nodes, &committee).to_string()),
        false => print(&summary(&args, &nodes, &committee)),
    }
}

fn refuse_occupied(directory: &Path) -> Result<(), CliError> {
    let name = directory.display();
    match directory.read_dir().map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(CliError::usage(format!("{name} is not empty: choose another --output-dir, or remove what is there")))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CliError::usage(format!("{name}: {error}: choose another --output-dir"))),
    }
}

fn plan(directory: &Path, base: u16, index: usize) -> Result<Made, CliError> {
    let name = format!("node-{index}");
    let address = |offset: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, ports::of(base, index, offset)));
    Ok(Made {
        directory: directory.join(&name),
        name,
        key: KeyPair::generate().map_err(from_key_file)?,
        listen: Listen { peer: address(0), client: address(1), http: address(2), ..Listen::default() },
    })
}

fn committee(nodes: &[Made], profile: Profile) -> Result<Committee, CliError> {
    let mut rules = match profile {
        Profile::Lan => ProtocolParameters::default(),
        Profile::Wan => ProtocolParameters::wan(),
    };
    rules.max_votes_per_block = rules.max_votes_per_block.max(nodes.len() as u32);
    let member = |node: &Made| Member {
        name: node.name.clone(),
        public_key: node.key.public(),
        stake: Stake(1),
        address: node.listen.peer.to_string(),
    };
    let mut network_id = [0; 32];
    getrandom::fill(&mut network_id)
        .map_err(|error| CliError::failed(format!("the operating system gave no random bytes: {error}")))?;
    Committee::new(0, Digest(network_id), nodes.iter().map(member).collect(), rules).map_err(CliError::failed)
}

fn write(args: &Args, nodes: &[Made], committee: &Committee) -> Result<(), CliError> {
    let failed =
        |path: &Path, error: std::io::Error| CliError::failed(format!("cannot write {}: {error}", path.display()));
    std::fs::create_dir_all(&args.output_dir).map_err(|error| failed(&args.output_dir, error))?;
    let file = committee_file(args);
    write_committee(&file, committee).map_err(|error| failed(&file, error))?;
    for node in nodes {
        std::fs::create_dir(&node.directory).map_err(|error| failed(&node.directory, error))?;
        node.key.save(&node.directory.join("node.key")).map_err(from_key_file)?;
        let profile = match args.profile {
            Profile::Lan => NodeParameters::default(),
            Profile::Wan => NodeParameters::wan(),
        };
        let parameters = NodeParameters { durability: args.durability, listen: node.listen.clone(), ..profile };
        let file = node.directory.join("node.toml");
        write_node(&file, &parameters).map_err(|error| failed(&file, error))?;
        // What was written is read back, so that a node never finds fault with it later.
        let config = load_node(&file, &[], &[])?;
        crate::schema::create_data_dir(&config.data_dir, committee.chain_id(), config.me).map_err(CliError::failed)?;
    }
    Ok(())
}

fn committee_file(args: &Args) -> PathBuf {
    args.output_dir.join("committee.toml")
}

fn summary(args: &Args, nodes: &[Made], committee: &Committee) -> String {
    let mut text = format!("{}: {} nodes, chain {}\n", args.output_dir.display(), nodes.len(), committee.chain_id());
    for Made { name, listen, .. } in nodes {
        text.push_str(&format!("{name:9} peer {}  client {}  http {}\n", listen.peer, listen.client, listen.http));
    }
    if nodes.len() < 4 {
        text.push_str("Fewer than 4 nodes tolerate no fault: any of them can stop this network.\n");
    }
    let first = args.output_dir.join("node-0/node.toml");
    text.push_str(&format!(
        "Start each node with, for example, `rorqual run --config {}`",
        shell(&first.display().to_string())
    ));
    text
}

fn summary_json(args: &Args, nodes: &[Made], committee: &Committee) -> Value {
    let node = |node: &Made| {
        json!({
            "name": node.name,
            "directory": node.directory.display().to_string(),
            "config": node.directory.join("node.toml").display().to_string(),
            "public_key": node.key.public().to_string(),
            "peer": node.listen.peer.to_string(),
            "client": node.listen.client.to_string(),
            "http": node.listen.http.to_string(),
        })
    };
    json!({
        "directory": args.output_dir.display().to_string(),
        "committee": committee_file(args).display().to_string(),
        "chain_id": committee.chain_id().to_string(),
        "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(output_dir: PathBuf, nodes: usize, profile: Profile) -> Args {
        Args { nodes, output_dir, base_port: None, profile, durability: Durability::Os, json: false }
    }

    #[test]
    fn every_node_of_a_testnet_loads_and_agrees_on_the_chain() {
        for (nodes, profile) in [(1, Profile::Lan), (4, Profile::Wan), (20, Profile::Lan)] {
            let dir = tempfile::tempdir().unwrap();
            run(args(dir.path().join("net"), nodes, profile)).unwrap();
            let mut chains = std::collections::BTreeSet::new();
            for index in 0..nodes {
                let config = load_node(&dir.path().join(format!("net/node-{index}/node.toml")), &[], &[]).unwrap();
                assert_eq!(config.me.usize(), index);
                assert_eq!(config.parameters.durability, Durability::Os);
                assert_eq!(config.committee.member(config.me).address, config.parameters.listen.peer.to_string());
                assert!(config.data_dir.is_dir());
                chains.insert(config.committee.chain_id());
            }
            assert_eq!(chains.len(), 1);
        }
    }

    #[test]
    fn a_directory_with_anything_in_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "mine").unwrap();
        let error = run(args(dir.path().to_owned(), 4, Profile::Lan)).unwrap_err();
        assert_eq!(error.code, 2);
        assert!(error.message.contains("is not empty"), "{error}");
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
        assert_eq!(run(args(dir.path().join("file"), 4, Profile::Lan)).unwrap_err().code, 2);
    }

    #[test]
    fn a_committee_has_1_to_128_members() {
        for nodes in [0, 129] {
            assert_eq!(run(args("/nowhere".into(), nodes, Profile::Lan)).unwrap_err().code, 2);
        }
    }
}
