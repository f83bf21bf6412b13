"""Benchmark tasks: `.venv/bin/fab --list` shows them, `.venv/bin/fab --help local` the options of one."""

from collections.abc import Callable
from typing import NoReturn

from bench import RESULTS, report
from bench import local as local_runs
from bench.parameters import Parameters, UsageError, parse_list, parse_number, parse_seconds, parse_settings
from cluster import ClusterError
from fabric import Connection, task
from invoke import Exit


def _attempt(action: Callable[[], object]) -> None:
    """Runs it; what goes wrong becomes one sentence and exit code 1, or 2 for wrong usage."""
    try:
        action()
    except UsageError as error:
        raise Exit(f"fab: {error}", code=2) from error
    except ClusterError as error:
        raise Exit(f"fab: {error}", code=1) from error


def _not_built(what: str) -> NoReturn:
    raise Exit(f"fab: {what} is not built yet", code=1)


# All values are read as text, so that a wrong one gets a sentence of ours.
@task(
    help={
        "nodes": "size of the committee (4)",
        "faults": "nodes that are never started (0)",
        "rate": "transactions a second over all nodes (10k); a list (10k,50k) makes one run each; 0: idle nodes",
        "tx-size": "bytes of a transaction (512)",
        "duration": "seconds of load, warm-up included (20)",
        "warm-up": "seconds at the beginning that are not measured (2)",
        "durability": "synced: on disk before anything depends on it; os: handed to the operating system (synced)",
        "profile": "lan or wan: which defaults the nodes get (lan)",
        "payload": "random (incompressible) or zeros (random)",
        "submission": "most transactions in one frame of the load generator (256)",
        "tick": "milliseconds between frames on one connection (1)",
        "set": "further values of node.toml for every node: key=value,key=value",
        "runs": "runs for each rate (1)",
        "keep": "keep the data of the nodes",
    }
)
def local(
    _context: Connection,
    nodes: str = "4",
    faults: str = "0",
    rate: str = "10k",
    tx_size: str = "512",
    duration: str = "20",
    warm_up: str = "2",
    durability: str = "synced",
    profile: str = "lan",
    payload: str = "random",
    submission: str = "256",
    tick: str = "1",
    set: str = "",
    runs: str = "1",
    keep: bool = False,
) -> None:
    """Run nodes and load on this machine, print a summary and write a results file."""

    def action() -> None:
        parameters = Parameters(
            nodes=parse_number("nodes", nodes),
            faults=parse_number("faults", faults),
            tx_size=parse_number("tx-size", tx_size),
            duration_s=parse_seconds("duration", duration),
            warm_up_s=parse_seconds("warm-up", warm_up),
            durability=durability,
            profile=profile,
            payload=payload,
            submission=parse_number("submission", submission),
            tick_ms=parse_number("tick", tick, kind=float),
            settings=parse_settings(set),
        )
        local_runs.sweep(parameters, parse_list(rate), parse_number("runs", runs), keep=keep)

    _attempt(action)


@task
def results(_context: Connection) -> None:
    """Print a table of all results files."""

    def action() -> None:
        found = [report.load(path) for path in sorted(RESULTS.glob("*.json"))]
        print(report.markdown(found) if found else "there are no results yet: `fab local` makes some")

    _attempt(action)


@task(help={"lines": "how many of each node (40)"})
def logs(_context: Connection, lines: str = "40") -> None:
    """Print the end of every node's log of the last run."""
    _attempt(lambda: local_runs.show_logs(parse_number("lines", lines)))


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
