"""The commands of scripts/systemd_cluster.sh: each node a transient unit of systemd."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import ClusterError, binary, endpoint
from .commands import node_count, open_or_create, state_directory
from .local import Cluster, Node, locked
from .progress import Progress
from .table import table

SCRIPT = "scripts/systemd_cluster.sh"
SLICE = "rorqual-cluster.slice"
PREFIX = "rorqual-cluster-"
READY_SECONDS = 60.0

# A node that crashed comes back; one that is configured wrongly (exit code 2) does not, and neither does one that keeps
# crashing. A node says itself when it is ready: once its listeners are bound and its store is recovered. On SIGTERM it
# delivers its own payload first, for at most 5 s, and then flushes.
PROPERTIES = [
    "Restart=on-failure",
    "RestartSec=1",
    "RestartPreventExitStatus=2",
    "StartLimitIntervalSec=60",
    "StartLimitBurst=5",
    "KillSignal=SIGTERM",
    "TimeoutStartSec=300",
    "TimeoutStopSec=30",
    "LimitNOFILE=65536",
    "OOMPolicy=stop",
    "NoNewPrivileges=yes",
]


class Manager:
    """The system's manager for root, the user's own for everybody else."""

    def __init__(self) -> None:
        self._flags = [] if os.geteuid() == 0 else ["--user"]
        self.name = "system" if not self._flags else "user"

    def require(self) -> None:
        """Fails where there is no systemd to talk to."""
        sentence = f"no systemd {self.name} manager is running here: use scripts/local_cluster.sh up instead"
        if not shutil.which("systemd-run") or not shutil.which("systemctl"):
            raise ClusterError(sentence)
        try:
            if self.systemctl("show", "--property=Version").returncode != 0:
                raise ClusterError(sentence)
        except subprocess.TimeoutExpired:
            raise ClusterError(sentence) from None

    def systemctl(self, *arguments: str, timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """Runs systemctl."""
        command = ["systemctl", *self._flags, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    def run(self, unit: str, properties: Sequence[str], command: Sequence[str | Path]) -> None:
        """Has a transient unit started and does not wait for it; what systemd says if it refuses."""
        options = [f"--property={line}" for line in properties]
        # Without --collect: a unit that failed stays, so that `systemctl status` tells why.
        line = ["systemd-run", *self._flags, "--quiet", "--no-block", f"--unit={unit}", f"--slice={SLICE}"]
        line += ["--service-type=notify", f"--description=rorqual {unit}", *options, *(str(word) for word in command)]
        result = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode != 0:
            raise ClusterError(f"systemd does not start {unit}: {result.stderr.strip()}")

    def facts(self, unit: str) -> dict[str, str]:
        """Some properties of a unit; those of one that does not exist say so."""
        names = "LoadState,ActiveState,SubState,MainPID,NRestarts,MemoryCurrent,CPUUsageNSec"
        output = self.systemctl("show", unit, f"--property={names}").stdout
        return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)

    def last_lines(self, unit: str, count: int = 15) -> str:
        """The end of the unit's journal, indented."""
        command = ["journalctl", *self._flags, "--no-pager", "--quiet", "-o", "cat", "-n", str(count), "-u", unit]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return "    (the journal does not answer)"
        return (
            "\n".join(f"    {line}" for line in result.stdout.splitlines()) or "    (the journal holds nothing of it)"
        )

    def journal(self, units: Sequence[str], follow: bool) -> int:
        """Shows the journal of some units."""
        command = ["journalctl", *self._flags, "--no-pager", *(["--follow"] if follow else [])]
        for unit in units:
            command += ["-u", unit]
        try:
            return subprocess.run(command, check=False).returncode
        except KeyboardInterrupt:
            return 0
        except OSError:
            raise ClusterError("journalctl is not installed: look with systemctl status") from None


def unit_of(node: Node) -> str:
    """The name of a node's unit."""
    return f"{PREFIX}{node.name}.service"


def _active(manager: Manager, node: Node) -> bool:
    return manager.facts(unit_of(node)).get("ActiveState") in ("active", "activating", "reloading")


def up(manager: Manager, directory: Path, nodes: int | None, memory_high: str | None) -> int:
    """Starts what does not run."""
    binary.build("rorqual")
    with locked(directory):
        cluster, fresh = open_or_create(directory, nodes)
        starting = [node for node in cluster.nodes if not _active(manager, node)]
        if not starting:
            print(f"All {len(cluster.nodes)} units of the cluster in {directory} are active already")
        else:
            kind = "New cluster" if fresh else "Cluster"
            amount = f"{len(starting)} of {len(cluster.nodes)} units"
            print(f"{kind} in {directory}: starting {amount} ({manager.name} manager)")
        if len(starting) == len(cluster.nodes) and not fresh and cluster.renew_binary():
            print("It gets the binary that was built since")
        properties = [*PROPERTIES, f"WorkingDirectory={directory}"]
        if memory_high:
            properties.append(f"MemoryHigh={memory_high}")
        try:
            for node in starting:
                manager.systemctl("reset-failed", unit_of(node))
                manager.run(unit_of(node), properties, [cluster.binary, "run", "--config", node.config])
            _wait_ready(manager, cluster, starting)
        except BaseException:
            # A cluster that did not come up leaves nothing of this command behind.
            _stop(manager, starting)
            raise
    print(_overview(manager, cluster))
    first = cluster.nodes[0].client
    print(f"\nTry:  {cluster.binary} submit --node {first} --text hello\n      {cluster.binary} log --node {first}")
    print(f"Stop: {SCRIPT} down")
    return 0


def _wait_ready(manager: Manager, cluster: Cluster, started: Sequence[Node]) -> None:
    progress = Progress("waiting until the nodes are ready")
    while True:
        missing = {node.name: reason for node in cluster.nodes if (reason := endpoint.readiness(node.http))}
        if not missing:
            progress.done()
            return
        for node in started:
            facts = manager.facts(unit_of(node))
            if not _active(manager, node) or int(facts.get("NRestarts") or 0) > 0:
                raise ClusterError(
                    f"{unit_of(node)} does not stay up; it said last:\n{manager.last_lines(unit_of(node))}"
                )
        detail = ", ".join(f"{name}: {reason}" for name, reason in missing.items())
        if progress.seconds() > READY_SECONDS:
            raise ClusterError(f"not ready after {READY_SECONDS:.0f} s: {detail}")
        progress.update(detail)
        time.sleep(0.2)


def status(manager: Manager, directory: Path) -> int:
    """Shows every unit; code 1 if one is not active."""
    cluster = Cluster.load(directory, bound=False)
    print(_overview(manager, cluster))
    return 0 if all(_active(manager, node) for node in cluster.nodes) else 1


def _overview(manager: Manager, cluster: Cluster) -> str:
    rows = []
    for node in cluster.nodes:
        facts = manager.facts(unit_of(node))
        active = facts.get("ActiveState") == "active"
        seen = (endpoint.status(node.http) or {}) if active else {}
        state = (endpoint.readiness(node.http) or "ready") if active else facts.get("SubState", "-")
        memory = facts.get("MemoryCurrent", "")
        rows.append(
            [
                unit_of(node),
                int(facts.get("MainPID") or 0) or "-",
                state,
                int(facts.get("NRestarts") or 0),
                f"{int(memory) / 2**20:.0f} MiB" if active and memory.isdigit() and int(memory) < 2**60 else "-",
                seen.get("round", "-"),
                seen.get("last_commit", "-"),
                (seen.get("applied") or {}).get("positions", "-"),
                node.client,
                node.http,
            ]
        )
    head = ["unit", "pid", "state", "restarts", "memory", "round", "commits", "transactions", "client", "http"]
    return table(head, rows)


def _stop(manager: Manager, nodes: Sequence[Node]) -> None:
    units = [unit_of(node) for node in nodes]
    if units:
        manager.systemctl("stop", *units, timeout=120)
        manager.systemctl("reset-failed", *units)


def down(manager: Manager, directory: Path, remove: bool) -> int:
    """Stops all units of the cluster."""
    if not Cluster.exists(directory):
        print(f"There is no cluster in {directory}: nothing to stop")
        return 0
    with locked(directory):
        cluster = Cluster.load(directory, bound=False)
        running = [node for node in cluster.nodes if _active(manager, node)]
        _stop(manager, cluster.nodes)
        left = [node for node in cluster.nodes if _active(manager, node)]
        if left:
            raise ClusterError(f"systemd did not stop {', '.join(unit_of(node) for node in left)}")
        manager.systemctl("stop", SLICE)
        if remove:
            shutil.rmtree(directory)
    kept = "removed" if remove else f"kept in {directory} (`down --remove` deletes it)"
    stopped = f"{len(running)} of {len(cluster.nodes)} units were active and are stopped"
    print(f"{stopped if running else 'No unit was active'}; data {kept}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=SCRIPT, description="A cluster of transient systemd units on this machine.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser("up", help="start a cluster, or go on with the one that is there")
    one.add_argument("--nodes", type=node_count, metavar="N", help="for a new cluster; default: 4")
    one.add_argument("--memory-high", metavar="SIZE", help="slows a unit down above it, for example 1G; default: none")
    commands.add_parser("status", help="show every unit")
    one = commands.add_parser("logs", help="show the journal of all units, or of node I")
    one.add_argument("index", type=int, nargs="?", metavar="I")
    one.add_argument("--follow", action="store_true", help="go on as it grows")
    one = commands.add_parser("down", help="stop all units; their data stays")
    one.add_argument("--remove", action="store_true", help="remove the data too")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs one command; the exit code."""
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = state_directory("RORQUAL_SYSTEMD_CLUSTER_DIR", "systemd-cluster")
    manager = Manager()
    try:
        manager.require()
        match args.command:
            case "up":
                return up(manager, directory, args.nodes, args.memory_high)
            case "status":
                return status(manager, directory)
            case "logs":
                nodes = Cluster.load(directory, bound=False).nodes
                chosen = nodes if args.index is None else [Cluster.load(directory, bound=False).node(args.index)]
                return manager.journal([unit_of(node) for node in chosen], args.follow)
            case _:
                return down(manager, directory, args.remove)
    except ClusterError as error:
        print(f"{SCRIPT}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{SCRIPT}: interrupted", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
