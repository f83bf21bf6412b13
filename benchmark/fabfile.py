"""Benchmark tasks: `.venv/bin/fab --list` shows them, `.venv/bin/fab --help local` the options of one."""

from collections.abc import Callable
from typing import NoReturn

from bench import RESULTS, report
from bench import local as local_runs
from bench.parameters import Parameters, parse_list, parse_settings
from cluster import ClusterError
from fabric import Connection, task
from invoke import Exit


def _attempt(action: Callable[[], object]) -> None:
    """Runs it; what goes wrong becomes one sentence and exit code 1."""
    try:
        action()
    except ClusterError as error:
        raise Exit(f"fab: {error}", code=1) from error


def _not_built(what: str) -> NoReturn:
    raise Exit(f"fab: {what} is not built yet", code=1)


@task(
    help={
        "nodes": "size of the committee",
        "faults": "nodes that are never started",
        "rate": "transactions a second over all nodes; a list (10k,50k) makes one run each",
        "tx-size": "bytes of a transaction",
        "duration": "seconds of load",
        "warm-up": "seconds at the beginning that are not measured",
        "durability": "synced: on disk before anything depends on it; os: handed to the operating system",
        "profile": "lan or wan: which defaults the nodes get",
        "payload": "random (incompressible) or zeros",
        "submission": "most transactions in one frame of the load generator",
        "tick": "milliseconds between frames on one connection",
        "set": "further values of node.toml for every node: key=value,key=value",
        "runs": "runs for each rate",
        "keep": "keep the data of the nodes",
    }
)
def local(
    _context: Connection,
    nodes: int = 4,
    faults: int = 0,
    rate: str = "10000",
    tx_size: int = 512,
    duration: int = 20,
    warm_up: int = 2,
    durability: str = "synced",
    profile: str = "lan",
    payload: str = "random",
    submission: int = 256,
    tick: float = 1.0,
    set: str = "",
    runs: int = 1,
    keep: bool = False,
) -> None:
    """Run nodes and load on this machine, print a summary and write a results file."""

    def action() -> None:
        parameters = Parameters(
            nodes=nodes,
            faults=faults,
            tx_size=tx_size,
            duration_s=duration,
            warm_up_s=warm_up,
            durability=durability,
            profile=profile,
            payload=payload,
            submission=submission,
            tick_ms=float(tick),
            settings=parse_settings(set),
        )
        local_runs.sweep(parameters, parse_list(rate), runs, keep=keep)

    _attempt(action)


@task
def results(_context: Connection) -> None:
    """Print a table of all results files."""

    def action() -> None:
        found = [report.load(path) for path in sorted(RESULTS.glob("*.json"))]
        print(report.markdown(found) if found else "there are no results yet: `fab local` makes some")

    _attempt(action)


@task(help={"lines": "how many of each node"})
def logs(_context: Connection, lines: int = 40) -> None:
    """Print the end of every node's log of the last run."""
    _attempt(lambda: local_runs.show_logs(lines))


@task
def kill(_context: Connection) -> None:
    """End the nodes of a benchmark that is under way; no other process."""
    _attempt(local_runs.kill)


@task
def remote(_context: Connection) -> None:
    """Run on other machines over SSH (not built yet)."""
    _not_built("`fab remote`")


@task
def plot(_context: Connection) -> None:
    """Draw latency over throughput (not built yet)."""
    _not_built("`fab plot`")
