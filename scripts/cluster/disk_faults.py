"""Disks of single nodes that are full, slow or failing, under load: the others go on, and nothing is lost."""

import argparse
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import ClusterError, agreement, binary, trial
from .lines import Writers, lost
from .load import Load
from .local import Cluster, Node
from .lossy import PROGRAMS, LossyDisks, unavailable
from .progress import Progress

SCRIPT = "scripts/disk_fault_test.sh"
MIB = 1 << 20
# What nodes keep free by default (`store.min_free_bytes`); node/docs/operations.md says what they do below it.
RESERVE = 256 * MIB
# Longest that a node may take to notice, or to go on after the space is back.
NOTICE_SECONDS = 10.0
# Longest without a commit of the others.
STALL_SECONDS = 10.0
SYNC_MICROSECONDS = 200_000
FAILED_SYNCS = 5


class Bench:
    """A cluster on lossy filesystems under load."""

    def __init__(self, directory: Path, rate: int, seed: int) -> None:
        directory.mkdir(parents=True)
        self.random = random.Random(seed)
        self.directory = directory
        self._rate = rate
        self.cluster = Cluster.create(directory / "cluster", 4, bound=True)
        self.disks = LossyDisks(self.cluster.nodes, directory / "lossy_filesystem.log")
        self.cluster.start(self.cluster.nodes)
        self.cluster.wait_ready(self.cluster.nodes)

    def close(self) -> None:
        """Ends everything."""
        self.cluster.kill()
        self.disks.close()

    @contextmanager
    def load(self, nodes: Sequence[Node]) -> Iterator[None]:
        """Load through these nodes; afterwards all logs agree and hold what was promised."""
        begin, wrong = agreement.settled(self.cluster.nodes)
        if wrong:
            raise ClusterError(wrong)
        load = Load.start(nodes, self._rate, 600, self.directory / "load")
        writers = Writers(self.cluster.binary, nodes, self.directory, f"from {begin}")
        try:
            yield
            load.check()
        finally:
            writers.end()
            load.stop()
        if not writers.receipts:
            raise ClusterError("no line had a receipt: the test tells nothing")
        self.cluster.wait_ready(self.cluster.nodes)
        entries = agreement.log_since(self.cluster.binary, self.cluster.nodes, begin)
        if wrong := lost(writers.sent, writers.receipts, 0, entries):
            raise ClusterError(wrong)

    def free(self, node: Node, mebibytes: int) -> None:
        """Leaves so much of a node's disk free."""
        used = self.disks.status(node.index)["used"]
        self.disks.command(f"capacity {used + mebibytes * MIB} {node.index}")

    def refusal(self, node: Node) -> str | None:
        """What a node says to a transaction; nothing if it commits it."""
        words = ["submit", "--node", node.client, "--text", f"at {time.monotonic_ns()}", "--timeout", "3s"]
        result = subprocess.run([self.cluster.binary, *words], capture_output=True, text=True, check=False)
        return None if result.returncode == 0 else result.stderr.strip() or "no answer"

    def reads(self, node: Node) -> None:
        """Fails if the node does not serve its log."""
        if not binary.run(self.cluster.binary, "log", "--node", node.client, "--from", "0"):
            raise ClusterError(f"{node.name} serves no log")

    def grow(self, node: Node, seconds: float) -> int:
        """By how much a node's log grows in this time."""
        before = agreement.positions(node)
        time.sleep(seconds)
        return agreement.positions(node) - before


def until(label: str, seconds: float, condition: Callable[[], bool]) -> float:
    """Waits for it and says how long that took."""
    progress = Progress(label)
    while not condition():
        if progress.seconds() > seconds:
            raise ClusterError(f"{label}: not within {seconds:.0f} s")
        progress.update()
        time.sleep(0.1)
    progress.done()
    return progress.seconds()


def full_disk(bench: Bench) -> str:
    """One full disk stops one node from taking transactions, two stop the cluster; space brings everything back."""
    one, two = bench.cluster.nodes[-1], bench.cluster.nodes[-2]
    others = bench.cluster.nodes[:-2]
    with bench.load(others):
        bench.free(one, RESERVE // MIB * 3 // 4)
        until("the node with a full disk refuses", NOTICE_SECONDS, lambda: "disk" in (bench.refusal(one) or ""))
        if bench.grow(others[0], STALL_SECONDS) <= 0:
            raise ClusterError("one full disk stopped the whole cluster")
        bench.reads(one)
        bench.free(one, RESERVE // MIB * 4)
        back = until("it takes transactions again", NOTICE_SECONDS, lambda: bench.refusal(one) is None)
    for node in (one, two):
        bench.free(node, RESERVE // MIB // 4)
    until("nothing is committed", NOTICE_SECONDS, lambda: bench.refusal(others[0]) is not None)
    for node in bench.cluster.nodes:
        bench.reads(node)
    for node in (one, two):
        bench.free(node, RESERVE // MIB * 4)
    both = until("commits go on", NOTICE_SECONDS, lambda: bench.refusal(others[0]) is None)
    bench.cluster.check_alive(bench.cluster.nodes)
    return f"a full disk: back {back:.1f} s after the space, and {both:.1f} s with two of four full"


def slow_disk(bench: Bench) -> str:
    """A disk that takes 0.2 s for every sync slows its own node; the others commit on."""
    others = bench.cluster.nodes[:-1]
    with bench.load(others):
        before = bench.grow(others[0], STALL_SECONDS)
        bench.disks.command(f"slow 0 {SYNC_MICROSECONDS} {len(others)}")
        meanwhile = bench.grow(others[0], STALL_SECONDS)
        bench.disks.command(f"slow 0 0 {len(others)}")
    if meanwhile <= 0:
        raise ClusterError("one slow disk stopped the whole cluster")
    return f"a slow disk: the others committed {meanwhile:,} transactions in the time of {before:,} before"


def failing_disk(bench: Bench) -> str:
    """A sync that fails ends the node with its reason; after a restart it has everything."""
    victim, others = bench.cluster.nodes[-1], bench.cluster.nodes[:-1]
    with bench.load(others):
        for _ in range(FAILED_SYNCS):
            bench.disks.command(f"fail-sync {bench.random.randint(1, 20)} {victim.index}")
            until("the node with a failed sync ends", NOTICE_SECONDS, lambda: victim.process() is None)
            # The system still shows what the disk does not hold; only a cut brings that to light.
            bench.disks.command(f"cut {victim.index}")
            bench.disks.command(f"power-on {bench.random.getrandbits(32)} {victim.index}")
            bench.cluster.start([victim])
            bench.cluster.wait_ready([victim])
    return f"a disk that fails: {FAILED_SYNCS} times the node ended, and had everything after a restart"


SCENARIOS = {"full": full_disk, "slow": slow_disk, "failing": failing_disk}


def run(args: argparse.Namespace, directory: Path) -> str:
    """Each scenario on a cluster of its own; what to print if all is well."""
    print(f"seed {args.seed}", flush=True)
    for name in args.scenarios or SCENARIOS:
        bench = Bench(directory / name, args.rate, args.seed)
        try:
            print(SCENARIOS[name](bench), flush=True)
        finally:
            bench.close()
    return "the others went on, and nothing was lost"


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog=SCRIPT, description="Disks of single nodes that are full, slow or failing.")
    parser.add_argument("--rate", type=int, default=500, help="transactions a second beside the lines; default: 500")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--only", dest="scenarios", action="append", choices=list(SCENARIOS), help="default: all")
    args = parser.parse_args(arguments)
    if reason := unavailable():
        print(f"FAIL: {reason}; this test cannot run here")
        return 1
    return trial.run("disk-faults-", PROGRAMS, lambda directory: run(args, directory))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
