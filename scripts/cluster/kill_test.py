"""Kills nodes of a cluster under load and looks whether anything that was promised is lost."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import ClusterError, agreement, binary, log
from .commands import node_count
from .local import Cluster, Node
from .process import last_lines
from .progress import Progress

SCRIPT = "scripts/kill_test.sh"
# Longest that the others may take to commit something again after a node was killed.
STALL_SECONDS = 10.0
# Longest that a node that comes back may take until it has executed all but the last second of load.
CATCH_UP_SECONDS = 60.0
# Lines in one call of `rorqual submit`.
CHUNK = 20
# Bytes of a transaction while all nodes are killed: so small that whole logs can be read, and still unique.
SMALL = 32


@dataclass
class Load:
    """rorqual-load in the background, its lines in a file."""

    child: "subprocess.Popen[bytes]"
    output: Path

    @classmethod
    def start(cls, nodes: Sequence[Node], rate: int, seconds: int, output: Path, tx_size: int = 512) -> "Load":
        """Offers load to the nodes until `seconds` have passed or it is stopped."""
        words: list[str | Path] = [binary.find("rorqual-load"), "--rate", str(rate), "--duration", f"{seconds}s"]
        words += ["--tx-size", str(tx_size)]
        for node in nodes:
            words += ["--node", node.client]
        with output.open("wb") as file:
            return cls(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT), output)

    def check(self) -> None:
        """Fails if it ended early."""
        if self.child.poll() is not None:
            raise ClusterError(
                f"the load generator ended with code {self.child.returncode}:\n{last_lines(self.output, 3)}"
            )

    def receipts(self) -> int:
        """Waits for its end, which comes when its connections are gone; how many committed receipts it has."""
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            raise ClusterError("the load generator goes on although every connection is gone") from None
        for line in self.output.read_text(errors="replace").splitlines():
            if line.startswith('{"result"'):
                return int(json.loads(line)["result"]["committed"])
        raise ClusterError(f"the load generator gave no result:\n{last_lines(self.output, 3)}")

    def stop(self) -> None:
        """Ends it, whatever it is doing."""
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


@dataclass(frozen=True)
class Receipt:
    """What a node promised."""

    line: str
    position: int


@dataclass
class Lines:
    """Numbered lines submitted through one node by one thread, and which of them have receipts."""

    program: Path
    node: Node
    directory: Path
    label: str
    stop: threading.Event
    sent: list[str] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def run(self) -> None:
        """Submits until told to stop or until the node is gone."""
        source = self.directory / f"lines-{self.node.index}"
        number = 0
        while not self.stop.is_set():
            lines = [f"{self.label} {self.node.name} line {number + offset}" for offset in range(CHUNK)]
            number += CHUNK
            source.write_text("".join(f"{line}\n" for line in lines))
            self.sent.extend(lines)
            words: list[str | Path] = [self.program, "submit", "--node", self.node.client]
            words += ["--lines", source, "--timeout", "10s", "--json"]
            result = subprocess.run(words, capture_output=True, text=True, check=False)
            # Also of a call that failed half-way: what it printed was promised.
            for receipt in map(json.loads, result.stdout.splitlines()):
                self.receipts.append(Receipt(lines[receipt["line"] - 1], receipt["position"]))
            if result.returncode != 0:
                return


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
    stop = threading.Event()
    load = Load.start(cluster.nodes, rate, int(seconds) + 60, directory / "load", SMALL)
    writers = [Lines(cluster.binary, node, directory, label, stop) for node in cluster.nodes]
    threads = [threading.Thread(target=writer.run, daemon=True) for writer in writers]
    try:
        for thread in threads:
            thread.start()
        progress = Progress("load and lines through all nodes")
        while progress.seconds() < seconds:
            cluster.check_alive(cluster.nodes)
            load.check()
            progress.update(f"{sum(len(writer.receipts) for writer in writers):,} lines have receipts")
            time.sleep(0.05)
        progress.done()
        cluster.kill()
        stop.set()
        for thread in threads:
            thread.join(30)
        others = load.receipts()
    finally:
        stop.set()
        load.stop()
    sent = [line for writer in writers for line in writer.sent]
    receipts = [receipt for writer in writers for receipt in writer.receipts]
    print(
        f"kill -9 of all nodes at once under {rate:,} tx/s: {len(receipts):,} lines and {others:,} others have receipts"
    )
    if not receipts or not others:
        raise ClusterError("nothing had a receipt before the kill: the test tells nothing")
    started = time.monotonic()
    cluster.start(cluster.nodes)
    cluster.wait_ready(cluster.nodes)
    print(f"all nodes are ready again {time.monotonic() - started:.1f} s after their start")
    entries = _log_since(cluster, base)
    if wrong := lost(sent, receipts, others, entries):
        raise ClusterError(wrong)
    print(f"everything with a receipt is in the log once, nothing is there twice ({len(entries):,} transactions)")


def _log_since(cluster: Cluster, base: int) -> list[log.Entry]:
    """The log from a position on, which must be the same at all nodes."""
    _, wrong = agreement.settled(cluster.nodes)
    if wrong:
        raise ClusterError(wrong)
    texts = [binary.run(cluster.binary, "log", "--node", node.client, "--from", str(base)) for node in cluster.nodes]
    for node, text in zip(cluster.nodes, texts, strict=True):
        if text != texts[0]:
            raise ClusterError(f"the logs of {cluster.nodes[0].name} and {node.name} differ after position {base}")
    entries = log.parse(texts[0])
    if wrong := log.gap(entries):
        raise ClusterError(wrong)
    return entries


def lost(sent: Sequence[str], receipts: Sequence[Receipt], others: int, found: Sequence[log.Entry]) -> str | None:
    """Nothing if every promise is kept; else one that is not.

    `others` is how many transactions that are not among the lines had receipts.
    """
    places = {entry.position: entry.text for entry in found}
    for receipt in receipts:
        if places.get(receipt.position) != receipt.line:
            seen = places.get(receipt.position, "nothing")[:60]
            return f"`{receipt.line}` had a receipt for position {receipt.position}, where the log holds `{seen}`"
    counts = Counter(entry.text for entry in found)
    text, count = counts.most_common(1)[0] if counts else ("", 0)
    if count > 1:
        return f"`{text[:60]}` was sent once and is in the log {count} times"
    rest = len(counts.keys() - set(sent))
    if rest < others:
        return f"{others:,} further transactions had receipts, but only {rest:,} are in the log"
    return None


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
