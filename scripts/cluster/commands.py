"""The commands of scripts/local_cluster.sh."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import ROOT, ClusterError, binary, demo, endpoint
from .local import Cluster, Node, locked
from .table import table

SCRIPT = "scripts/local_cluster.sh"
MAX_NODES = 128


def state_directory(variable: str, name: str) -> Path:
    """Where a cluster lives: named by the environment, or below the user's state directory."""
    if chosen := os.environ.get(variable):
        return Path(chosen).absolute()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "rorqual" / name


def node_count(text: str) -> int:
    """Reads the size of a committee; argparse names the option."""
    if not text.isdigit() or not 1 <= int(text) <= MAX_NODES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_NODES}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=SCRIPT, description="A cluster of real processes on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser(
        "demo", help="start nodes, commit every line of a file through all of them, compare, stop"
    )
    one.add_argument("--nodes", type=node_count, default=4, metavar="N", help="default: 4")
    one.add_argument("--file", type=Path, default=ROOT / "README.md", help="default: README.md")
    one.add_argument("--keep", action="store_true", help="keep the directory even if it passes")
    one = commands.add_parser("up", help="start a cluster to play with, or go on with the one that is there")
    one.add_argument("--nodes", type=node_count, metavar="N", help="for a new cluster; default: 4")
    commands.add_parser("status", help="show every node")
    for name, help_text in [
        ("logs", "print the log of node I"),
        ("kill", "kill -9 node I"),
        ("restart", "stop node I if it runs, and start it"),
    ]:
        one = commands.add_parser(name, help=help_text)
        one.add_argument("index", type=int, metavar="I")
        if name == "logs":
            one.add_argument("--follow", action="store_true", help="go on as it grows")
    one = commands.add_parser("down", help="stop all nodes; their data stays")
    one.add_argument("--remove", action="store_true", help="remove the data too")
    return parser


def open_or_create(directory: Path, nodes: int | None) -> tuple[Cluster, bool]:
    """The cluster that is there, or a new one; whether it is new."""
    if not Cluster.exists(directory):
        return Cluster.create(directory, nodes or 4, bound=False), True
    cluster = Cluster.load(directory, bound=False)
    if nodes not in (None, len(cluster.nodes)):
        raise ClusterError(f"{directory} holds a cluster of {len(cluster.nodes)} nodes: remove it with `down --remove`")
    return cluster, False


def up(directory: Path, nodes: int | None) -> int:
    """Starts what does not run."""
    binary.build("rorqual")
    with locked(directory):
        cluster, fresh = open_or_create(directory, nodes)
        running = cluster.running()
        starting = [node for node in cluster.nodes if node not in running]
        if not starting:
            print(f"All {len(cluster.nodes)} nodes of the cluster in {directory} run already")
        else:
            kind = "New cluster" if fresh else "Cluster"
            print(f"{kind} in {directory}: starting {len(starting)} of {len(cluster.nodes)} nodes")
        if not running and not fresh and cluster.renew_binary():
            print("It gets the binary that was built since")
        try:
            cluster.start(starting)
            cluster.wait_ready(cluster.nodes)
        except BaseException:
            # A cluster that did not come up leaves nothing of this command behind.
            if starting:
                cluster.stop(starting)
            raise
    print(_overview(cluster.nodes))
    first, program = cluster.nodes[0].client, cluster.binary
    print(f"\nTry:  {program} submit --node {first} --text hello\n      {program} log --node {first}")
    print(f"Stop: {SCRIPT} down")
    return 0


def status(directory: Path) -> int:
    """Shows every node; code 1 if one is not running."""
    cluster = Cluster.load(directory, bound=False)
    print(_overview(cluster.nodes))
    return 0 if len(cluster.running()) == len(cluster.nodes) else 1


def _overview(nodes: Sequence[Node]) -> str:
    rows = []
    for node in nodes:
        process = node.process()
        facts = (endpoint.status(node.http) or {}) if process else {}
        state = "stopped" if process is None else (endpoint.readiness(node.http) or "ready")
        applied = facts.get("applied") or {}
        rows.append(
            [
                node.name,
                process.pid if process else "-",
                state,
                facts.get("round", "-"),
                facts.get("last_commit", "-"),
                applied.get("positions", "-"),
                f"{node.disk_bytes() / 2**20:.1f} MiB",
                node.client,
                node.http,
            ]
        )
    return table(["node", "pid", "state", "round", "commits", "transactions", "disk", "client", "http"], rows)


def logs(directory: Path, index: int, follow: bool) -> int:
    """Prints a node's log."""
    node = Cluster.load(directory, bound=False).node(index)
    if not node.log.exists():
        raise ClusterError(f"{node.name} was never started: it has no log")
    if not follow:
        with node.log.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        return 0
    try:
        return subprocess.run(["tail", "-n", "50", "-F", str(node.log)]).returncode
    except KeyboardInterrupt:
        return 0


def kill(directory: Path, index: int) -> int:
    """What a crash does to one node."""
    with locked(directory):
        cluster = Cluster.load(directory, bound=False)
        node = cluster.node(index)
        if node.process() is None:
            raise ClusterError(f"{node.name} is not running; `{SCRIPT} restart {index}` starts it")
        cluster.kill([node])
    print(f"{node.name} was killed; `{SCRIPT} restart {index}` starts it again")
    return 0


def restart(directory: Path, index: int) -> int:
    """Stops a node if it runs, and starts it."""
    with locked(directory):
        cluster = Cluster.load(directory, bound=False)
        node = cluster.node(index)
        forced = cluster.stop([node])
        if forced:
            print(f"{node.name} did not stop when asked to and was killed")
        cluster.start([node])
        enough = len(cluster.running()) >= cluster.quorum
        # Without a quorum it cannot be ready, however long one waits.
        cluster.wait_ready([node], probe=endpoint.readiness if enough else endpoint.liveness)
    print(_overview(cluster.nodes))
    if not enough:
        print(f"{len(cluster.running())} of {len(cluster.nodes)} nodes run, {cluster.quorum} are needed to commit")
    return 0


def down(directory: Path, remove: bool) -> int:
    """Stops all nodes."""
    if not Cluster.exists(directory):
        print(f"There is no cluster in {directory}: nothing to stop")
        return 0
    with locked(directory):
        cluster = Cluster.load(directory, bound=False)
        running = cluster.running()
        forced = cluster.stop()
        if remove:
            shutil.rmtree(directory)
    for node in forced:
        print(f"{node.name} did not stop when asked to and was killed")
    kept = "removed" if remove else f"kept in {directory} (`down --remove` deletes it)"
    stopped = f"{len(running)} of {len(cluster.nodes)} nodes were running and are stopped"
    print(f"{stopped if running else 'No node was running'}; data {kept}")
    return 1 if forced else 0


def _interrupted(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _run(args: argparse.Namespace, directory: Path) -> int:
    match args.command:
        case "demo":
            verdict = demo.run(args.nodes, args.file, keep=args.keep)
            print(verdict)
            return 0 if verdict.passed else 1
        case "up":
            return up(directory, args.nodes)
        case "status":
            return status(directory)
        case "logs":
            return logs(directory, args.index, args.follow)
        case "kill":
            return kill(directory, args.index)
        case "restart":
            return restart(directory, args.index)
        case _:
            return down(directory, args.remove)


def main(arguments: Sequence[str]) -> int:
    """Runs one command; the exit code."""
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)
    try:
        return _run(args, state_directory("RORQUAL_CLUSTER_DIR", "local-cluster"))
    except ClusterError as error:
        print(f"{SCRIPT}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{SCRIPT}: interrupted", file=sys.stderr)
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
