"""rorqual-load in the background of a test."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ClusterError, binary
from .local import Node
from .process import last_lines


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
