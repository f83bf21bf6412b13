"""Latencies from the histogram buckets that nodes export."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.endpoint import Metrics

STAGE = "rorqual_stage_latency_seconds"


@dataclass(frozen=True)
class Histogram:
    """Counts at or below upper bounds, ascending; the last bound is infinity."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total: float

    @property
    def count(self) -> float:
        """How many values."""
        return self.counts[-1] if self.counts else 0.0

    def mean(self) -> float | None:
        """Exact."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """Interpolated within its bucket, like Prometheus does it; not above the last finite bound."""
        if not self.count:
            return None
        wanted = share * self.count
        below, floor = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= wanted and count > below:
                if bound == float("inf"):
                    return floor
                return floor + (bound - floor) * (wanted - below) / (count - below)
            below, floor = count, bound
        return floor


def of_stage(samples: Metrics, stage: str) -> Histogram | None:
    """The histogram of one stage on one node."""
    buckets = []
    for (name, labels), value in samples.items():
        found = dict(labels)
        if name == f"{STAGE}_bucket" and found.get("stage") == stage:
            buckets.append((float(found["le"].replace("+Inf", "inf")), value))
    if not buckets:
        return None
    buckets.sort()
    total = samples.get((f"{STAGE}_sum", frozenset({("stage", stage)})), 0.0)
    return Histogram(tuple(bound for bound, _ in buckets), tuple(value for _, value in buckets), total)


def grown(before: Histogram | None, after: Histogram | None) -> Histogram | None:
    """What was added between two readings of one node."""
    if after is None or before is None:
        return after
    counts = tuple(late - early for late, early in zip(after.counts, before.counts, strict=True))
    return Histogram(after.bounds, counts, after.total - before.total)


def together(parts: Sequence[Histogram | None]) -> Histogram | None:
    """All nodes as one."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    counts = tuple(sum(column) for column in zip(*(part.counts for part in known), strict=True))
    return Histogram(known[0].bounds, counts, sum(part.total for part in known))
