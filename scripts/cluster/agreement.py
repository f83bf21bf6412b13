"""Whether all nodes hold the same log: equal length, and equal byte for byte in windows spread over it."""

import time
from collections.abc import Sequence
from pathlib import Path

from . import endpoint, log
from .local import Node

WINDOWS = 8
WINDOW_LINES = 100
SECONDS = 15.0


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
    return None


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
