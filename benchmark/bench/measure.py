"""What the kernel and the nodes say about a run."""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import endpoint
from cluster.local import Node

from .histogram import Histogram, grown, of_stage, together

STAGES = ("submitted_to_sealed", "sealed_to_committed", "committed_to_executed", "submitted_to_executed")
COMMITS = ("rorqual_commits_total", frozenset[tuple[str, str]]())


@dataclass(frozen=True)
class Reading:
    """One node at one moment."""

    at: float
    cpu_s: float
    rss_bytes: int
    peak_bytes: int
    commits: float
    positions: int
    stages: dict[str, Histogram | None]


def read(node: Node) -> Reading:
    """Reads one node; what does not answer reads as zero."""
    process = node.process()
    samples = endpoint.metrics(node.http)
    facts = endpoint.status(node.http) or {}
    resident, peak = process.memory_bytes() if process else (0, 0)
    return Reading(
        at=time.monotonic(),
        cpu_s=process.cpu_seconds() if process else 0.0,
        rss_bytes=resident,
        peak_bytes=peak,
        commits=samples.get(COMMITS, 0.0),
        positions=int((facts.get("applied") or {}).get("positions", 0)),
        stages={stage: of_stage(samples, stage) for stage in STAGES},
    )


def cpu_seconds(node: Node) -> float:
    """Processor time it used so far; 0 if it does not run."""
    process = node.process()
    return process.cpu_seconds() if process else 0.0


def per_node(node: Node, before: Reading, after: Reading) -> dict[str, Any]:
    """One entry of the results file."""
    return {
        "name": node.name,
        "cpu_s": round(after.cpu_s - before.cpu_s, 2),
        "rss_mib": round(after.rss_bytes / 2**20, 1),
        "peak_rss_mib": round(after.peak_bytes / 2**20, 1),
        "disk_bytes": node.disk_bytes(),
        "commits": int(after.commits - before.commits),
    }


def stage_latency_ms(before: Sequence[Reading], after: Sequence[Reading], stage: str) -> dict[str, float | None]:
    """Latency of one stage over all nodes and the whole run, by batch."""
    parts = [grown(early.stages[stage], late.stages[stage]) for early, late in zip(before, after, strict=True)]
    whole = together(parts)
    if whole is None:
        return {"mean": None, "p50": None, "p90": None, "p99": None}
    values = {"mean": whole.mean(), "p50": whole.quantile(0.5), "p90": whole.quantile(0.9), "p99": whole.quantile(0.99)}
    return {name: None if value is None else round(value * 1e3, 3) for name, value in values.items()}


def machine() -> dict[str, Any]:
    """What it ran on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {"cpus": os.cpu_count(), "cpu": model, "memory_gib": round(memory / 2**30, 1), "kernel": platform.release()}


def file_system(path: Path) -> str:
    """Type of the file system that holds a path."""
    best, kind = "", "?"
    try:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, mount, name = line.split()[:3]
            inside = str(path) == mount or str(path).startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= len(best):
                best, kind = mount, name
    except OSError:
        pass
    return kind
