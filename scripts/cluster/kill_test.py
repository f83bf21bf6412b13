"""Kills nodes of a cluster under load and looks whether anything that was promised is lost."""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import ClusterError, agreement, binary
from .commands import node_count
from .lines import Writers, lost
from .load import Load
from .local import Cluster, Node
from .progress import Progress

SCRIPT = "scripts/kill_test.sh"
# Longest that the others may take to commit something again after a node was killed.
STALL_SECONDS = 10.0
# Longest that a node that comes back may take until it has executed all but the last second of load.
CATCH_UP_SECONDS = 60.0
# Bytes of a transaction while all nodes are killed: so small that whole logs can be read, and still unique.
SMALL = 32


def one_node(cluster: Cluster, rate: int, down: float, directory: Path) -> None:
    """Kills one node under load; the others go on; it comes back and catches up."""
    victim, others = cluster.nodes[-1], cluster.nodes[:-1]
    total = int(down + CATCH_UP_SECONDS + 120)
    load = Load.start(others, rate, total, directory / "load")
    try:
        _pause(cluster, cluster.nodes, load, 5, "load before the kill")
        cluster.kill([victim])
        print(f"kill -9 {victim.name} under {rate:,} tx/s")
        before = agreement.positions(others[0])
        _pause(cluster, others, load, STALL_SECONDS, "the others go on")
        grown = agreement.positions(others[0]) - before
        if grown <= 0:
            raise ClusterError(f"nothing was committed in the {STALL_SECONDS:.0f} s after {victim.name} was killed")
        print(f"the others committed {grown:,} transactions in the next {STALL_SECONDS:.0f} s")
        _pause(cluster, others, load, max(0.0, down - STALL_SECONDS), f"{victim.name} stays down")
        cluster.start([victim])
        started = time.monotonic()
        progress = Progress(f"{victim.name} catches up")
        while (missing := agreement.positions(others[0]) - agreement.positions(victim)) > rate:
            cluster.check_alive(cluster.nodes)
            load.check()
            if time.monotonic() - started > CATCH_UP_SECONDS:
                raise ClusterError(f"{victim.name} still lacks {missing:,} transactions after {CATCH_UP_SECONDS:.0f} s")
            progress.update(f"{missing:,} transactions behind")
            time.sleep(0.1)
        progress.done()
        took = time.monotonic() - started
        print(f"{victim.name} was down for {down:.0f} s and has caught up {took:.1f} s after its start")
    finally:
        load.stop()
    end, wrong = agreement.settled(cluster.nodes)
    wrong = wrong or agreement.difference(cluster.binary, cluster.nodes, 0, end)
    wrong = wrong or agreement.whole_difference(cluster.binary, cluster.nodes, 0)
    if wrong:
        raise ClusterError(wrong)
    print(f"all logs agree byte for byte, {end:,} transactions")


def all_nodes(cluster: Cluster, rate: int, seconds: float, label: str, directory: Path) -> None:
    """Kills all nodes at once under load; what had a receipt is in the log once after they come back."""
    cluster.check_alive(cluster.nodes)
    base, wrong = agreement.settled(cluster.nodes)
    if wrong:
        raise ClusterError(wrong)
    load = Load.start(cluster.nodes, rate, int(seconds) + 60, directory / "load", SMALL)
    writers = Writers(cluster.binary, cluster.nodes, directory, label)
    try:
        progress = Progress("load and lines through all nodes")
        while progress.seconds() < seconds:
            cluster.check_alive(cluster.nodes)
            load.check()
            progress.update(f"{len(writers.receipts):,} lines have receipts")
            time.sleep(0.05)
        progress.done()
        cluster.kill()
        writers.end()
        others = load.receipts()
    finally:
        writers.end()
        load.stop()
    receipts = writers.receipts
    print(
        f"kill -9 of all nodes at once under {rate:,} tx/s: {len(receipts):,} lines and {others:,} others have receipts"
    )
    if not receipts or not others:
        raise ClusterError("nothing had a receipt before the kill: the test tells nothing")
    started = time.monotonic()
    cluster.start(cluster.nodes)
    cluster.wait_ready(cluster.nodes)
    print(f"all nodes are ready again {time.monotonic() - started:.1f} s after their start")
    entries = agreement.log_since(cluster.binary, cluster.nodes, base)
    if wrong := lost(writers.sent, receipts, others, entries):
        raise ClusterError(wrong)
    print(f"everything with a receipt is in the log once, nothing is there twice ({len(entries):,} transactions)")


def _pause(cluster: Cluster, alive: Sequence[Node], load: Load, seconds: float, label: str) -> None:
    progress = Progress(label)
    while progress.seconds() < seconds:
        cluster.check_alive(alive)
        load.check()
        progress.update()
        time.sleep(0.1)
    progress.done()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=SCRIPT, description="Kills nodes of a cluster of real processes under load.")
    parser.add_argument("--nodes", type=node_count, default=4, metavar="N", help="default: 4")
    parser.add_argument("--rate", type=int, default=10_000, help="transactions a second; default: 10000")
    parser.add_argument("--down", type=float, default=60.0, help="seconds that the one node stays down; default: 60")
    parser.add_argument("--cycles", type=int, default=3, help="how often all nodes are killed; default: 3")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs both; the exit code."""
    args = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Not in /tmp, which is memory on many machines.
    place = Path.home() / ".cache" / "rorqual"
    place.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="kill-test-", dir=place))
    cluster: Cluster | None = None
    passed = False
    try:
        binary.build("rorqual", "rorqual-load")
        cluster = Cluster.create(directory / "cluster", args.nodes, bound=True)
        cluster.start(cluster.nodes)
        cluster.wait_ready(cluster.nodes)
        one_node(cluster, args.rate, args.down, directory)
        for cycle in range(args.cycles):
            all_nodes(cluster, args.rate, 6.0, f"cycle {cycle}", directory)
        passed = True
        sentence = f"PASS: kill -9 of one node and {args.cycles} times of all nodes lost and doubled nothing"
    except ClusterError as error:
        first, _, details = str(error).partition("\n")
        print(details)
        sentence = f"FAIL: {first}"
    except KeyboardInterrupt:
        sentence = "FAIL: interrupted"
    finally:
        if cluster is not None:
            cluster.kill()
        if passed or cluster is None:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            print(f"Everything is kept in {directory}")
    print(sentence)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
