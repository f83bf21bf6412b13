"""The demo: four nodes, every line of a real file through all of them, one order at the end."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ClusterError, binary, endpoint, log
from .local import Cluster, Node
from .process import last_lines
from .progress import Progress
from .table import table

SUBMIT_SECONDS = 60.0
CATCH_UP_SECONDS = 20.0
LEGEND = """\
submitted here     lines handed to this node; every other line came to it through its peers
in its log         transactions it has executed: all lines, whoever took them in
digest of its log  SHA-256 of what `rorqual log` prints there: equal only if positions and bytes are equal
commits, round     how often the nodes agreed on what comes next, and rounds of signed blocks that it took; both go on
                   while nobody submits, so they may differ by a few"""


@dataclass(frozen=True)
class Verdict:
    """How it ended."""

    passed: bool
    sentence: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'}: {self.sentence}"


def run(nodes: int, file: Path, *, keep: bool) -> Verdict:
    """Everything, in a fresh directory that is removed at the end unless it holds the explanation of a failure."""
    try:
        lines = read_lines(file)
        binary.build("rorqual")
    except ClusterError as error:
        return Verdict(False, str(error))
    directory = Path(tempfile.mkdtemp(prefix="rorqual-demo-"))
    verdict, interrupted = Verdict(False, "it did not end"), False
    cluster: Cluster | None = None
    try:
        cluster = Cluster.create(directory / "cluster", nodes, bound=True)
        verdict = _run(cluster, lines, file, directory)
    except ClusterError as error:
        print(error)
        verdict = Verdict(False, one_sentence(str(error)))
    except KeyboardInterrupt:
        verdict, interrupted = Verdict(False, "interrupted"), True
    finally:
        if cluster is not None:
            try:
                forced = cluster.stop()
            finally:
                cluster.kill()
            if forced and verdict.passed:
                verdict = Verdict(False, f"{forced[0].name} did not stop when asked to")
        if keep or not (verdict.passed or interrupted):
            print(f"Everything is kept in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return verdict


def _run(cluster: Cluster, lines: Sequence[bytes], file: Path, directory: Path) -> Verdict:
    started = time.monotonic()
    print(f"Starting {len(cluster.nodes)} nodes in {cluster.directory}")
    for node in cluster.nodes:
        print(f"  {node.name}  peers {node.peer}  clients {node.client}  http {node.http}")
    cluster.start(cluster.nodes)
    cluster.wait_ready(cluster.nodes)
    print(
        f"Submitting the {len(lines)} lines of {file} through all {len(cluster.nodes)} nodes at once, dealt out in turn"
    )
    seconds = _submit(cluster, lines, directory)
    print(f"Every line has its receipt after {seconds:.2f} s: which commit, which position in the log")
    logs = _fetch_logs(cluster, len(lines))
    print(f"\n{_facts(cluster.nodes, lines, logs)}\n\n{LEGEND}\n")
    reason = difference(lines, [logs[node.index] for node in cluster.nodes])
    if reason:
        return Verdict(False, reason)
    return Verdict(
        True,
        f"{len(lines)} lines of {file.name} committed through {len(cluster.nodes)} nodes, each exactly once, "
        f"in the same order everywhere ({time.monotonic() - started:.1f} s)",
    )


def one_sentence(reason: str) -> str:
    """The first line with, where that only announces what a process said, the last thing it said."""
    first, *said = [line.strip() for line in reason.splitlines() if line.strip()] or ["no reason was given"]
    return f"{first} {said[-1]}" if said else first


def read_lines(file: Path) -> list[bytes]:
    """The lines of the file as `rorqual submit --lines` reads them."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ClusterError(f"cannot read {file}: {error.strerror}") from error
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    lines = [line.removesuffix(b"\r") for line in lines]
    if not lines:
        raise ClusterError(f"{file} has no lines to submit")
    return lines


def deal(lines: Sequence[bytes], hands: int) -> list[list[bytes]]:
    """The lines dealt out in turn."""
    return [list(lines[hand::hands]) for hand in range(hands)]


def _submit(cluster: Cluster, lines: Sequence[bytes], directory: Path) -> float:
    """Submits through all nodes at once and waits for every receipt."""
    started = time.monotonic()
    children: list[tuple[Node, subprocess.Popen[bytes], Path]] = []
    try:
        for node, part in zip(cluster.nodes, deal(lines, len(cluster.nodes)), strict=True):
            if not part:
                continue
            source, output = directory / f"lines-{node.index}", directory / f"submit-{node.index}.log"
            source.write_bytes(b"".join(line + b"\n" for line in part))
            command: list[str | Path] = [cluster.binary, "submit", "--node", node.client, "--lines", source]
            with output.open("wb") as file:
                child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
            children.append((node, child, output))
        progress = Progress("waiting for receipts")
        while any(child.poll() is None for _, child, _ in children):
            cluster.check_alive(cluster.nodes)
            if progress.seconds() > SUBMIT_SECONDS:
                raise ClusterError(f"not every line had its receipt after {SUBMIT_SECONDS:.0f} s")
            progress.update(", ".join(node.name for node, child, _ in children if child.poll() is None))
            time.sleep(0.02)
        progress.done()
    finally:
        for _, child, _ in children:
            if child.poll() is None:
                child.kill()
                child.wait()
    for node, child, output in children:
        if child.returncode != 0:
            raise ClusterError(f"submitting through {node.name} failed:\n{last_lines(output)}")
    return time.monotonic() - started


def _fetch_logs(cluster: Cluster, expected: int) -> dict[int, str]:
    """The whole log of each node, once each has executed what any of them answered for."""
    progress = Progress("waiting until every node has executed everything")
    logs: dict[int, str] = {}
    while len(logs) < len(cluster.nodes):
        cluster.check_alive(cluster.nodes)
        for node in cluster.nodes:
            positions = ((endpoint.status(node.http) or {}).get("applied") or {}).get("positions", 0)
            if node.index not in logs and (positions >= expected or progress.seconds() > CATCH_UP_SECONDS):
                logs[node.index] = binary.run(cluster.binary, "log", "--node", node.client)
        progress.update(f"{len(logs)} of {len(cluster.nodes)}")
        time.sleep(0.02)
    progress.done()
    return logs


def difference(lines: Sequence[bytes], logs: Sequence[str]) -> str | None:
    """Nothing if all logs are equal and hold exactly the lines; else the first thing that is wrong."""
    for index, output in enumerate(logs):
        if output != logs[0]:
            return f"the logs of node-0 and node-{index} differ"
    entries = log.parse(logs[0])
    return log.gap(entries) or log.miscounted(lines, entries)


def _facts(nodes: Sequence[Node], lines: Sequence[bytes], logs: dict[int, str]) -> str:
    rows = []
    for node, part in zip(nodes, deal(lines, len(nodes)), strict=True):
        facts = endpoint.status(node.http) or {}
        text = logs[node.index]
        row = [node.name, len(part), text.count("\n"), log.digest(text)]
        rows.append([*row, facts.get("last_commit", "?"), facts.get("round", "?")])
    return table(["node", "submitted here", "in its log", "digest of its log", "commits", "round"], rows)
