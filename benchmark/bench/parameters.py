"""What a run is asked to do."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster import ClusterError


class UsageError(ClusterError):
    """What was asked for makes no sense."""


@dataclass(frozen=True)
class Parameters:
    """One run."""

    nodes: int = 4
    faults: int = 0
    rate: int = 10_000
    tx_size: int = 512
    duration_s: int = 20
    warm_up_s: int = 2
    durability: str = "synced"
    profile: str = "lan"
    payload: str = "random"
    submission: int = 256
    tick_ms: float = 1.0
    # Values of node.toml that every node is given, beside those above.
    settings: Mapping[str, str] = field(default_factory=dict)
    # Not built yet: links are as fast as the machine makes them.
    link_delay_ms: float = 0.0

    def check(self) -> None:
        """Fails with everything that makes no sense."""
        wrong = []
        if not 1 <= self.nodes <= 128:
            wrong.append(f"nodes = {self.nodes}: must be 1 to 128")
        if not 0 <= self.faults < self.nodes:
            wrong.append(f"faults = {self.faults}: must be 0 to {self.nodes - 1}")
        elif self.faults > (self.nodes - 1) // 3:
            tolerated = (self.nodes - 1) // 3
            wrong.append(f"faults = {self.faults}: {self.nodes} nodes tolerate {tolerated}, nothing would commit")
        if self.rate < 0:
            wrong.append(f"rate = {self.rate}: must be 0 (idle) or more transactions a second")
        if not 1 <= self.tx_size <= 1 << 17:
            wrong.append(f"tx-size = {self.tx_size}: must be 1 to {1 << 17} bytes")
        if not 0 <= self.warm_up_s < self.duration_s:
            wrong.append(f"warm-up = {self.warm_up_s} s: must be shorter than the duration of {self.duration_s} s")
        for name, value, known in [
            ("durability", self.durability, ("synced", "os")),
            ("profile", self.profile, ("lan", "wan")),
            ("payload", self.payload, ("random", "zeros")),
        ]:
            if value not in known:
                wrong.append(f"{name} = {value}: must be {' or '.join(known)}")
        if not 0.1 <= self.tick_ms <= 5:
            wrong.append(f"tick = {self.tick_ms} ms: must be 0.1 to 5")
        if self.submission < 1:
            wrong.append(f"submission = {self.submission}: must be at least 1 transaction")
        if wrong:
            raise UsageError("; ".join(wrong))

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)

    def label(self) -> str:
        """A name for files, readable and the same for the same parameters."""
        return f"{self.nodes}n-{self.faults}f-{self.rate}tps-{self.tx_size}b-{self.duration_s}s-{self.durability}"


def parse_settings(text: str) -> dict[str, str]:
    """Reads `key=value,key=value`."""
    settings = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise UsageError(f"`{part}` is not KEY=VALUE, for example batch.max_delay=5ms")
        settings[key] = value
    return settings


def parse_list(text: str) -> list[int]:
    """Reads `10000` or `10000,50000`; a `k` stands for a thousand."""
    try:
        return [round(float(part[:-1]) * 1_000) if part.endswith("k") else int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"rate = {text}: must be a number or a list of numbers, for example 10k,50k") from None


def parse_number(name: str, text: str, kind: Callable[[str], Any] = int) -> Any:
    """Reads the value of one option."""
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{name} = {text}: must be a number") from None


def parse_seconds(name: str, text: str) -> int:
    """Reads `60`, `60s` or `2m`."""
    factor = {"s": 1, "m": 60}.get(text[-1:], 0)
    try:
        return int(text[:-1]) * factor if factor else int(text)
    except ValueError:
        raise UsageError(f"{name} = {text}: must be whole seconds or minutes, for example 60, 60s or 2m") from None
