"""Cuts the power of all nodes at once, under load, again and again, and looks whether anything promised is lost."""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import ClusterError, agreement, binary, endpoint, trial
from .commands import node_count
from .lines import Receipt, Writers, lost
from .load import Load
from .local import Cluster
from .lossy import PROGRAMS, LossyDisks, unavailable

SCRIPT = "scripts/power_loss_test.sh"
# Every line is as long as an ordinary transaction, so that payload is large enough to go where payload goes.
PADDING = " " + "." * 470
# The load before a cut takes this long, by chance.
LOAD_SECONDS = (0.5, 3.0)
# How often the power goes again while the nodes start.
AGAIN = 0.25
READY_SECONDS = 60.0
# Longest that a first transaction after a restart may take, through each node.
PROGRESS_SECONDS = 20.0
# In this many cycles a cluster that does not sync must have broken a promise.
CONTROL_CYCLES = 5
# What a node says when it knows that a promise is broken.
CONFESSIONS = ("equivocation", "amnesia", "fork:")


class BrokenPromise(ClusterError):
    """The cluster did what it must never do, as opposed to a test that could not be carried out."""


class Stuck(ClusterError):
    """The cluster does not go on by itself."""


@dataclass
class Promised:
    """What was handed in, and what had receipts."""

    sent: list[str] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    # Receipts of the load generator, which does not say for what.
    others: int = 0

    def add(self, more: "Promised") -> None:
        """Takes over what another cycle promised."""
        self.sent += more.sent
        self.receipts += more.receipts
        self.others += more.others


@dataclass
class Totals:
    """What happened over all cycles."""

    cycles: int = 0
    cuts: int = 0
    slowest: float = 0.0
    loss: Counter[str] = field(default_factory=Counter)


class Cycles:
    """A cluster on lossy filesystems, and everything that was ever promised by it."""

    def __init__(self, directory: Path, nodes: int, rate: int, seed: int, durability: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.totals = Totals()
        self._rate = rate
        self._random = random.Random(seed)
        self._promised = Promised()
        self._read = [0] * nodes
        self.cluster = Cluster.create(directory / "cluster", nodes, "--durability", durability, bound=True)
        self.disks = LossyDisks(self.cluster.nodes, directory / "lossy_filesystem.log")
        self._start()

    def close(self) -> None:
        """Ends all processes and unmounts."""
        self.cluster.kill()
        self.disks.close()

    def cycle(self) -> None:
        """Load, cut, restart, and the checks."""
        self.totals.cycles += 1
        begin = max(0, agreement.positions(self.cluster.nodes[0]))
        promised = self._load_until_cut()
        self._power_on()
        while self._random.random() < AGAIN:
            self.cluster.start(self.cluster.nodes)
            time.sleep(self._random.uniform(0.0, 1.0))
            self._cut()
            self._power_on()
        started = time.monotonic()
        self._start()
        self._progress(promised)
        took = time.monotonic() - started
        self.totals.slowest = max(self.totals.slowest, took)
        self._check(begin, promised)
        self._promised.add(promised)
        print(
            f"cycle {self.totals.cycles}: receipts for {len(promised.receipts):,} of {len(promised.sent):,} lines "
            f"and for {promised.others:,} others; {took:.1f} s from the start to a commit through every node",
            flush=True,
        )

    def check_all(self) -> None:
        """Every promise of all cycles is still kept."""
        self._check(0, self._promised)

    @property
    def receipts(self) -> int:
        """How many there were in all cycles."""
        return len(self._promised.receipts) + self._promised.others

    def _load_until_cut(self) -> Promised:
        cluster, cycle = self.cluster, self.totals.cycles
        load = Load.start(cluster.nodes, self._rate, 600, self.directory / "load")
        writers = Writers(cluster.binary, cluster.nodes, self.directory, f"cycle {cycle}", PADDING)
        try:
            deadline = time.monotonic() + PROGRESS_SECONDS
            while not writers.receipts:
                cluster.check_alive(cluster.nodes)
                load.check()
                if time.monotonic() > deadline:
                    raise Stuck(f"no line had a receipt in the {PROGRESS_SECONDS:.0f} s before cut {cycle}")
                time.sleep(0.01)
            time.sleep(self._random.uniform(*LOAD_SECONDS))
            cluster.check_alive(cluster.nodes)
            self._check_peers()
            self._cut()
            writers.end()
            return Promised(writers.sent, writers.receipts, load.receipts())
        finally:
            writers.end()
            load.stop()

    def _cut(self) -> None:
        self.disks.cut()
        self.cluster.kill()
        self.totals.cuts += 1

    def _power_on(self) -> None:
        self.totals.loss.update(self.disks.power_on(self._random.getrandbits(63)))

    def _start(self) -> None:
        self.cluster.start(self.cluster.nodes)
        try:
            self.cluster.wait_ready(self.cluster.nodes, READY_SECONDS)
        except ClusterError as error:
            self._check_peers()
            raise Stuck(f"after a restart: {error}") from error

    def _progress(self, promised: Promised) -> None:
        """Through every node something is committed again."""
        for node in self.cluster.nodes:
            line = f"after {self.totals.cuts} cuts through {node.name}"
            words = ("submit", "--node", node.client, "--text", line, "--timeout", f"{PROGRESS_SECONDS:.0f}s", "--json")
            try:
                receipt = json.loads(binary.run(self.cluster.binary, *words))
            except ClusterError as error:
                raise Stuck(f"no progress after a restart: {error}") from error
            promised.sent.append(line)
            promised.receipts.append(Receipt(line, receipt["position"]))

    def _check(self, begin: int, promised: Promised) -> None:
        self._check_peers()
        try:
            entries = agreement.log_since(self.cluster.binary, self.cluster.nodes, begin)
        except ClusterError as error:
            raise BrokenPromise(str(error)) from error
        if wrong := lost(promised.sent, promised.receipts, promised.others, entries):
            raise BrokenPromise(wrong)

    def _check_peers(self) -> None:
        """No node has seen two blocks of one round from anybody, and none has confessed to anything."""
        for node in self.cluster.nodes:
            samples = endpoint.metrics(node.http)
            for (name, labels), value in samples.items():
                if name == "rorqual_equivocations_total" and value > 0:
                    raise BrokenPromise(f"{node.name} has seen two blocks of one round: {dict(labels)}")
            with node.log.open("rb") as file:
                file.seek(self._read[node.index])
                said = file.read()
            self._read[node.index] += len(said)
            for line in said.decode(errors="replace").splitlines():
                if any(word in line for word in CONFESSIONS):
                    raise BrokenPromise(f"{node.name} says: {line}")


def synced(directory: Path, args: argparse.Namespace) -> None:
    """Cycles on a cluster that syncs: no promise may break."""
    cycles = Cycles(directory, args.nodes, args.rate, args.seed, "synced")
    try:
        for _ in range(args.cycles):
            cycles.cycle()
        cycles.check_all()
        totals, status = cycles.totals, cycles.disks.status()
        print(
            f"{totals.cycles} cycles, {totals.cuts} cuts of all {args.nodes} nodes, {cycles.receipts:,} receipts, none "
            f"lost; slowest restart {totals.slowest:.1f} s"
        )
        loss = totals.loss
        print(
            f"unsynced when the power went: {loss['writes_lost']:,} writes lost, {loss['writes_torn']:,} torn, "
            f"{loss['writes_kept']:,} kept; {loss['names_lost']:,} changes of names lost, {loss['names_kept']:,} kept"
        )
        direct, buffered = status["direct_writes"], status["buffered_writes"]
        path = "O_DIRECT" if direct else "page cache only"
        print(f"payload path: {path} ({direct:,} direct writes, {buffered:,} buffered)")
        if not (loss["writes_lost"] and loss["writes_torn"] and cycles.receipts > totals.cycles):
            raise ClusterError("too little was lost in the cuts, or promised before them: the test tells nothing")
    finally:
        cycles.close()


def control(directory: Path, args: argparse.Namespace) -> None:
    """The same on a cluster that does not sync: a check that cannot fail there proves nothing."""
    cycles = Cycles(directory, args.nodes, args.rate, args.seed, "os")
    try:
        for _ in range(CONTROL_CYCLES):
            cycles.cycle()
        raise ClusterError(f"the control without syncs lost nothing in {CONTROL_CYCLES} cuts: the test proves nothing")
    except BrokenPromise as broken:
        print(f"the control without syncs fails, as it must: {str(broken).partition(chr(10))[0]}")
    finally:
        cycles.close()


def run(args: argparse.Namespace, directory: Path) -> str:
    """Both; what to print if all is well."""
    print(f"seed {args.seed}: the same with --seed cuts at the same moments, as far as processes allow", flush=True)
    control(directory / "control", args)
    synced(directory / "synced", args)
    return f"nothing that was promised was lost in {args.cycles} power cuts, and the control without syncs fails"


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog=SCRIPT, description="Cuts the power of all nodes of a cluster under load.")
    parser.add_argument("--nodes", type=node_count, default=4, metavar="N", help="default: 4")
    parser.add_argument("--cycles", type=int, default=40, help="how often the power goes; default: 40")
    parser.add_argument("--rate", type=int, default=500, help="transactions a second beside the lines; default: 500")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    args = parser.parse_args(arguments)
    if reason := unavailable():
        print(f"FAIL: {reason}; this test cannot run here")
        return 1
    return trial.run("power-loss-", PROGRAMS, lambda directory: run(args, directory))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
