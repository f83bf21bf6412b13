"""Whether all nodes hold the same log: equal length, and equal byte for byte; long ones in windows spread over them."""

import hashlib
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from . import ClusterError, endpoint, log
from .binary import run
from .local import Node
from .progress import Progress

WINDOWS = 8
WINDOW_LINES = 100
SECONDS = 15.0
# Logs with more transactions than this are compared in windows only: reading them takes longer than a run.
WHOLE_TRANSACTIONS = 500_000
CHUNK_BYTES = 1 << 20


def starts(begins: int, end: int, windows: int = WINDOWS, lines: int = WINDOW_LINES) -> list[int]:
    """Where windows begin: the first at the beginning, the last so that it reaches the end."""
    last = max(begins, end - lines)
    return sorted({begins + (last - begins) * place // (windows - 1) for place in range(windows)})


def settled(nodes: Sequence[Node], seconds: float = SECONDS) -> tuple[int, str | None]:
    """Waits until all logs have one length; the length, or what is wrong."""
    deadline = time.monotonic() + seconds
    while True:
        lengths = {node.name: positions(node) for node in nodes}
        if len(set(lengths.values())) == 1 and -1 not in lengths.values():
            return next(iter(lengths.values())), None
        if time.monotonic() > deadline:
            named = ", ".join(f"{name} {length}" for name, length in lengths.items())
            return 0, f"the logs differ in length after {seconds:.0f} s without load: {named}"
        time.sleep(0.1)


def difference(binary: Path, nodes: Sequence[Node], before: int, end: int) -> str | None:
    """Nothing if the logs between two positions agree where they were looked at; else where they do not."""
    begins = max(_begins(node) for node in nodes)
    for start in starts(max(begins, before), end):
        texts = [log.window(binary, node.client, start, WINDOW_LINES) for node in nodes]
        for node, text in zip(nodes, texts, strict=True):
            if not text and start < end:
                return f"{node.name} prints nothing from position {start} on"
            if text != texts[0]:
                return f"the logs of {nodes[0].name} and {node.name} differ after position {start}"
    if end - max(begins, before) <= WHOLE_TRANSACTIONS:
        return whole_difference(binary, nodes, max(begins, before))
    return None


def whole_difference(binary: Path, nodes: Sequence[Node], start: int) -> str | None:
    """Nothing if the bytes of all transactions from a position on are equal everywhere."""
    progress = Progress("comparing whole logs")
    first = ""
    for node in nodes:
        progress.update(node.name)
        digest = content_digest(binary, node, start)
        first = first or digest
        if digest != first:
            return f"the logs of {nodes[0].name} and {node.name} differ somewhere after position {start}"
    progress.done()
    return None


def log_since(program: Path, nodes: Sequence[Node], start: int) -> list[log.Entry]:
    """The log from a position on, which must be the same at all nodes."""
    _, wrong = settled(nodes)
    if wrong:
        raise ClusterError(wrong)
    texts = [run(program, "log", "--node", node.client, "--from", str(start)) for node in nodes]
    for node, text in zip(nodes, texts, strict=True):
        if text != texts[0]:
            raise ClusterError(f"the logs of {nodes[0].name} and {node.name} differ after position {start}")
    entries = log.parse(texts[0])
    if wrong := log.gap(entries):
        raise ClusterError(wrong)
    return entries


def content_digest(binary: Path, node: Node, start: int) -> str:
    """SHA-256 of the bytes of all transactions of a node from a position on."""
    command = [str(binary), "log", "--node", node.client, "--from", str(start), "--raw"]
    hasher = hashlib.sha256()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        while chunk := child.stdout.read(CHUNK_BYTES):
            hasher.update(chunk)
        complaint = child.stderr.read().decode(errors="replace").strip()
    if child.returncode != 0:
        raise ClusterError(f"{node.name} does not print its log: {complaint}")
    return hasher.hexdigest()


def problem(binary: Path, nodes: Sequence[Node], before: int, committed: int, exact: bool) -> str | None:
    """Nothing if the logs agree and grew by what receipts say; else what is wrong.

    With `exact`, every transaction was answered, and the log must have grown by exactly the committed ones.
    """
    end, wrong = settled(nodes)
    if wrong:
        return wrong
    if end - before < committed or (exact and end - before != committed):
        return f"receipts say that {committed} transactions were committed, but the log grew by {end - before}"
    return difference(binary, nodes, before, end)


def positions(node: Node) -> int:
    """How many transactions the node has executed; -1 if it does not answer."""
    facts = endpoint.status(node.http) or {}
    return int((facts.get("applied") or {}).get("positions", -1))


def _begins(node: Node) -> int:
    return int((endpoint.status(node.http) or {}).get("log_begins") or 0)
