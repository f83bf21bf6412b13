"""Numbered lines under receipts: what was promised, and whether the log keeps it."""

import json
import subprocess
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .local import Node
from .log import Entry

# Lines in one call of `rorqual submit`.
CHUNK = 20


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
    padding: str
    stop: threading.Event
    sent: list[str] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def run(self) -> None:
        """Submits until told to stop or until the node is gone."""
        source = self.directory / f"lines-{self.node.index}"
        number = 0
        while not self.stop.is_set():
            lines = [f"{self.label} {self.node.name} line {number + offset}{self.padding}" for offset in range(CHUNK)]
            number += CHUNK
            source.write_text("".join(f"{line}\n" for line in lines))
            self.sent.extend(lines)
            words: list[str | Path] = [self.program, "submit", "--node", self.node.client]
            words += ["--lines", source, "--timeout", "10s", "--json"]
            result = subprocess.run(words, capture_output=True, text=True, check=False)
            # Also of a call that failed half-way: what it printed was promised.
            self.receipts.extend(committed(lines, result.stdout))
            if result.returncode != 0:
                return


def committed(lines: Sequence[str], output: str) -> list[Receipt]:
    """What `rorqual submit --lines --json` says was committed; other outcomes promise nothing."""
    outcomes = [json.loads(text) for text in output.splitlines()]
    return [
        Receipt(lines[outcome["line"] - 1], outcome["position"])
        for outcome in outcomes
        if outcome["outcome"] == "committed"
    ]


class Writers:
    """One thread of lines through each node."""

    def __init__(self, program: Path, nodes: Sequence[Node], directory: Path, label: str, padding: str = "") -> None:
        """Begins at once. The label tells these lines from others; the padding makes each of them longer."""
        self._stop = threading.Event()
        self._lines = [Lines(program, node, directory, label, padding, self._stop) for node in nodes]
        self._threads = [threading.Thread(target=lines.run, daemon=True) for lines in self._lines]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Waits for the threads; the nodes are gone, or the lines that are under way are answered soon."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def sent(self) -> list[str]:
        """All lines that were handed to a node."""
        return [line for lines in self._lines for line in list(lines.sent)]

    @property
    def receipts(self) -> list[Receipt]:
        """All that was promised so far."""
        return [receipt for lines in self._lines for receipt in list(lines.receipts)]


def lost(sent: Sequence[str], receipts: Sequence[Receipt], others: int, found: Sequence[Entry]) -> str | None:
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
