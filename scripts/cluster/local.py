"""A cluster in one directory: what `rorqual testnet` made, and for each node a log and the id of its process."""

import fcntl
import filecmp
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import ClusterError, binary, endpoint
from .process import ProcessId, last_lines, start
from .progress import Progress

# A node that is asked to stop takes up to 5 s to deliver its own payload, and then flushes.
STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Node:
    """One node of a cluster."""

    index: int
    directory: Path
    config: Path
    peer: str
    client: str
    http: str

    @property
    def name(self) -> str:
        return f"node-{self.index}"

    @property
    def log(self) -> Path:
        return self.directory / "node.log"

    @property
    def _pid_file(self) -> Path:
        return self.directory / "node.pid"

    def process(self) -> ProcessId | None:
        """Its process, if it runs."""
        try:
            process = ProcessId.parse(self._pid_file.read_text())
        except OSError:
            return None
        return process if process and process.is_alive() else None

    def start(self, program: Path, settings: Mapping[str, str], *, bound: bool) -> None:
        """Starts it with further values of node.toml, if it does not run."""
        if self.process() is None:
            flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
            process = start([program, "run", "--config", self.config, *flags], self.log, bound=bound)
            self._pid_file.write_text(f"{process}\n")

    def disk_bytes(self) -> int:
        """What its data takes on disk, holes not counted."""
        total = 0
        for folder, _, names in os.walk(self.directory / "data"):
            for name in names:
                try:
                    total += os.stat(os.path.join(folder, name)).st_blocks * 512
                except OSError:
                    pass  # deleted meanwhile
        return total

    def epitaph(self) -> str:
        """What it said last."""
        return f"{self.name} is not running; its last log lines ({self.log}):\n{last_lines(self.log)}"


class Cluster:
    """Nodes that were made together."""

    def __init__(self, directory: Path, nodes: Sequence[Node], *, bound: bool) -> None:
        self.directory = directory
        self.nodes = list(nodes)
        self.settings: dict[str, str] = {}
        self._bound = bound

    @property
    def binary(self) -> Path:
        """A copy of the binary, so that a build does not change what runs here."""
        return self.directory / "rorqual"

    @classmethod
    def create(cls, directory: Path, count: int, *options: str, bound: bool) -> "Cluster":
        """Makes keys, committee, configuration and data; `options` are further ones of `rorqual testnet`.

        The directory is there with everything in it, or not at all.
        """
        if directory.exists() and any(directory.iterdir()):
            raise ClusterError(f"{directory} is not empty and holds no cluster: choose another directory")
        program = binary.find()
        draft = directory.with_name(f"{directory.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        try:
            facts = binary.run_json(program, "testnet", "--nodes", str(count), "--output-dir", draft, *options)
            kept = [{key: node[key] for key in ("name", "peer", "client", "http")} for node in facts["nodes"]]
            about = {"chain_id": facts["chain_id"], "nodes": kept}
            (draft / "cluster.json").write_text(json.dumps(about, indent=2) + "\n")
            shutil.copy2(program, draft / "rorqual")
            draft.rename(directory)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return cls.load(directory, bound=bound)

    def renew_binary(self) -> bool:
        """Takes the binary that would be used for a new cluster; whether it differs from the one that was here.

        Only for a cluster of which nothing runs.
        """
        program = binary.find()
        if filecmp.cmp(program, self.binary, shallow=False):
            return False
        draft = self.binary.with_name("rorqual.new")
        shutil.copy2(program, draft)
        draft.rename(self.binary)
        return True

    @classmethod
    def load(cls, directory: Path, *, bound: bool) -> "Cluster":
        """A cluster that was made earlier."""
        try:
            facts = json.loads((directory / "cluster.json").read_text())
        except FileNotFoundError:
            raise ClusterError(f"there is no cluster in {directory}: start one with `up`") from None
        nodes = [
            Node(
                index=index,
                directory=(directory / node["name"]).absolute(),
                config=(directory / node["name"] / "node.toml").absolute(),
                peer=node["peer"],
                client=node["client"],
                http=node["http"],
            )
            for index, node in enumerate(facts["nodes"])
        ]
        return cls(directory.absolute(), nodes, bound=bound)

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether a cluster was made here."""
        return (directory / "cluster.json").exists()

    def node(self, index: int) -> Node:
        """The node with this number."""
        if not 0 <= index < len(self.nodes):
            raise ClusterError(f"there is no node {index}: they are numbered 0 to {len(self.nodes) - 1}")
        return self.nodes[index]

    def running(self) -> list[Node]:
        """Nodes whose process runs."""
        return [node for node in self.nodes if node.process()]

    @property
    def quorum(self) -> int:
        """How many nodes must run for commits to go on; all have the same stake here."""
        return len(self.nodes) - (len(self.nodes) - 1) // 3

    def start(self, nodes: Iterable[Node]) -> None:
        """Starts those of the nodes that do not run."""
        for node in nodes:
            node.start(self.binary, self.settings, bound=self._bound)

    def wait_ready(
        self, nodes: Sequence[Node], seconds: float = 60.0, probe: Callable[[str], str | None] = endpoint.readiness
    ) -> None:
        """Waits until the probe of each node's operator endpoint finds nothing missing."""
        progress = Progress("waiting until the nodes are ready")
        deadline = time.monotonic() + seconds
        missing = {node.index: "" for node in nodes}
        while missing:
            self.check_alive(nodes)
            for node in nodes:
                if node.index in missing:
                    reason = probe(node.http)
                    if reason is None:
                        del missing[node.index]
                    else:
                        missing[node.index] = reason
            detail = ", ".join(f"node-{index}: {reason}" for index, reason in missing.items())
            if missing and time.monotonic() > deadline:
                progress.done()
                first = self.nodes[next(iter(missing))]
                last = f"last log lines of {first.name}:\n{last_lines(first.log)}"
                raise ClusterError(f"not ready after {seconds:.0f} s: {detail}; {last}")
            progress.update(detail)
            if missing:
                time.sleep(0.05)
        progress.done()

    def check_alive(self, nodes: Iterable[Node]) -> None:
        """Fails with the last words of a node that should run and does not."""
        for node in nodes:
            if node.process() is None:
                raise ClusterError(node.epitaph())

    def stop(self, nodes: Iterable[Node] | None = None) -> list[Node]:
        """Asks all at once to end and waits; returns those that had to be killed."""
        processes = [(node, process) for node in nodes or self.nodes if (process := node.process())]
        for _, process in processes:
            process.send(signal.SIGTERM)
        progress = Progress("stopping")
        deadline = time.monotonic() + STOP_SECONDS
        while any(process.is_alive() for _, process in processes) and time.monotonic() < deadline:
            progress.update(", ".join(node.name for node, process in processes if process.is_alive()))
            time.sleep(0.05)
        progress.done()
        return [node for node, process in processes if not process.stop(0)]

    def kill(self, nodes: Iterable[Node] | None = None) -> None:
        """Ends them as a crash would."""
        for node in nodes or self.nodes:
            if process := node.process():
                process.kill()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Only one command at a time changes the cluster in this directory."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{directory}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterError(f"another command is at work on {directory}: try again when it is done") from None
        yield
