"""Whether all nodes hold the same log after a run: equal length, and equal byte for byte in windows spread over it."""

import time
from collections.abc import Sequence
from pathlib import Path

from cluster import endpoint, log
from cluster.local import Node

WINDOWS = 8
WINDOW_LINES = 100
SECONDS = 15.0


def starts(begins: int, end: int, windows: int = WINDOWS, lines: int = WINDOW_LINES) -> list[int]:
    """Where windows begin: the first at the beginning, the last so that it reaches the end."""
    last = max(begins, end - lines)
    return sorted({begins + (last - begins) * place // (windows - 1) for place in range(windows)})


def problem(binary: Path, nodes: Sequence[Node], before: int, committed: int, exact: bool) -> str | None:
    """Nothing if the logs agree and grew by what receipts say; else what is wrong.

    With `exact`, every transaction was answered, and the log must have grown by exactly the committed ones.
    """
    deadline = time.monotonic() + SECONDS
    while True:
        positions = {node.name: _applied(node, "positions") for node in nodes}
        if len(set(positions.values())) == 1 and -1 not in positions.values():
            break
        if time.monotonic() > deadline:
            lengths = ", ".join(f"{name} {length}" for name, length in positions.items())
            return f"the logs differ in length {SECONDS:.0f} s after the load ended: {lengths}"
        time.sleep(0.1)
    end = next(iter(positions.values()))
    if end - before < committed or (exact and end - before != committed):
        return f"receipts say that {committed} transactions were committed, but the log grew by {end - before}"
    begins = max(_begins(node) for node in nodes)
    for start in starts(max(begins, before), end):
        texts = [log.window(binary, node.client, start, WINDOW_LINES) for node in nodes]
        for node, text in zip(nodes, texts, strict=True):
            if not text and start < end:
                return f"{node.name} prints nothing from position {start} on"
            if text != texts[0]:
                return f"the logs of {nodes[0].name} and {node.name} differ after position {start}"
    return None


def _applied(node: Node, name: str) -> int:
    facts = endpoint.status(node.http) or {}
    return int((facts.get("applied") or {}).get(name, -1))


def _begins(node: Node) -> int:
    return int((endpoint.status(node.http) or {}).get("log_begins") or 0)
