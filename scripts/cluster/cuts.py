"""Directories of all nodes of a cluster at one moment, put aside, and what the cluster had promised then."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import ClusterError, binary, flips, log
from .lines import Receipt, Writers
from .load import Load
from .local import Cluster

NODES = 4
# Load before a cut. Transactions of this size go to segment files, the lines beside them to tables.
LOAD_SECONDS = 2.0
LOAD_RATE = 40
LARGE = 6_000
CUTS = ("killed", "stopped")


@dataclass(frozen=True)
class Cut:
    """The directories of all nodes at one moment, and what the cluster had promised then."""

    name: str
    directory: Path
    known: list[str]
    receipts: list[Receipt]


def falsehood(cut: Cut, logs: dict[str, str]) -> str | None:
    """Nothing if all printed logs are equal and hold what was promised; else what does not."""
    (first, text), *others = logs.items()
    for name, other in others:
        if other != text:
            return f"the logs of {first} and {name} differ"
    entries = log.parse(text)
    if wrong := log.gap(entries):
        return wrong
    if text.split("\n")[: len(cut.known)] != cut.known:
        return "the log does not begin with what was read from it before the cut"
    places = {entry.position: entry.text for entry in entries}
    for receipt in cut.receipts:
        if places.get(receipt.position) != receipt.line:
            return f"`{receipt.line}` had a receipt for position {receipt.position}, where the log holds something else"
    return None


class Cuts:
    """A cluster and its cuts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.of: dict[str, Cut] = {}
        if (directory / "cuts.json").exists():
            self.cluster = Cluster.load(directory / "cluster", bound=True)
            self._load_cuts()
            return
        directory.mkdir(parents=True, exist_ok=True)
        self.cluster = Cluster.create(directory / "cluster", NODES, bound=True)
        # What a clean stop leaves in tables, and a log behind it.
        self._work("cleanly, for tables")
        self.cluster.stop()
        for name in CUTS:
            self._make_cut(name)
        self._save_cuts()

    def _work(self, label: str, end: Callable[[], object] = lambda: None) -> tuple[list[str], list[Receipt]]:
        """Load through all nodes until `end` ends them; the log as it could be read before, and what had receipts."""
        cluster = self.cluster
        cluster.start(cluster.nodes)
        cluster.wait_ready(cluster.nodes)
        load = Load.start(cluster.nodes, LOAD_RATE, 600, self.directory / "load", LARGE)
        writers = Writers(cluster.binary, cluster.nodes, self.directory, label)
        try:
            time.sleep(LOAD_SECONDS)
            cluster.check_alive(cluster.nodes)
            print(f"{len(writers.receipts):,} lines have receipts; the nodes end ({label})", flush=True)
            load.check()
            known = binary.run(cluster.binary, "log", "--node", cluster.nodes[0].client, "--from", "0")
            end()
            writers.end()
        finally:
            writers.end()
            load.stop()
        if not writers.receipts:
            raise ClusterError("no line had a receipt: the test tells nothing")
        return known.split("\n")[:-1], writers.receipts

    def _make_cut(self, name: str) -> None:
        """Load, the end of all nodes under it, and their directories."""
        end = self.cluster.kill if name == "killed" else self.cluster.stop
        known, receipts = self._work(name, end)
        cut = Cut(name, self.directory / name, known, receipts)
        cut.directory.mkdir()
        for node in self.cluster.nodes:
            _copy(node.directory / "data", cut.directory / node.name)
        if name == "killed":
            for node in self.cluster.nodes:
                flips.check_kinds(cut.directory / node.name)
        self.of[name] = cut

    def _save_cuts(self) -> None:
        facts = {
            cut.name: {"known": cut.known, "receipts": [[receipt.line, receipt.position] for receipt in cut.receipts]}
            for cut in self.of.values()
        }
        (self.directory / "cuts.json").write_text(json.dumps(facts))

    def _load_cuts(self) -> None:
        for name, facts in json.loads((self.directory / "cuts.json").read_text()).items():
            receipts = [Receipt(line, position) for line, position in facts["receipts"]]
            self.of[name] = Cut(name, self.directory / name, facts["known"], receipts)

    def restore(self, cut: Cut) -> None:
        """Fresh copies for all nodes, of which none runs, and empty logs."""
        for node in self.cluster.nodes:
            shutil.rmtree(node.directory / "data", ignore_errors=True)
            _copy(cut.directory / node.name, node.directory / "data")
            node.log.write_bytes(b"")


def _copy(source: Path, destination: Path) -> None:
    """Copies a directory; what was reserved and not written stays a hole."""
    subprocess.run(["cp", "--archive", "--reflink=auto", "--sparse=always", source, destination], check=True)
