"""Results as a file, as the summary that Narwhal's users know, and as a table."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from cluster import ROOT, ClusterError, binary

from . import RESULTS

SCHEMA = 1

Result = dict[str, Any]

# What the load generator says, of a run that offers nothing.
NOTHING: Result = {
    "committed_tps": 0.0,
    "committed_bps": 0.0,
    "latency_ms": {"mean": None, "p50": None, "p90": None, "p99": None, "max": None},
    "offered": 0,
    "submitted": 0,
    "committed": 0,
    "rejected": 0,
    "rejected_by_reason": {},
    "unknown": 0,
    "broken": [],
    "series": [],
}


def commit() -> str:
    """The commit of this tree, marked if the tree differs from it, or what ran was not built from it."""
    try:
        words = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=12", "--dirty=-modified", "--exclude=*"]
        name = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        return f"{name}-other-binary" if any(map(os.environ.get, binary.CHOSEN.values())) else name
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def save(result: Result, name: str) -> Path:
    """Writes one results file."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def load(path: Path) -> Result:
    """Reads one; refuses what another version wrote."""
    try:
        result: Result = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ClusterError(f"cannot read {path}: {error}") from error
    if result.get("schema") != SCHEMA:
        raise ClusterError(f"{path} has schema {result.get('schema')}, this program reads schema {SCHEMA}")
    return result


def _ms(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"


def _latency(title: str, values: dict[str, float | None]) -> list[str]:
    lines = [f" {title} latency: {_ms(values.get('mean'))}"]
    lines += [f" {title} latency {name}: {_ms(values.get(name))}" for name in ("p50", "p90", "p99")]
    return lines


def summary(result: Result) -> str:
    """The block that every run prints."""
    asked, consensus = result["parameters"], result["consensus"]
    line = "-----------------------------------------"
    cpu = ", ".join(f"{node['cpu_s'] / result['measured_wall_s']:.3f}" for node in result["per_node"])
    memory = ", ".join(f"{node['rss_mib']:.0f}" for node in result["per_node"])
    disk = ", ".join(f"{node['disk_bytes'] / 2**20:.0f}" for node in result["per_node"])
    lines = [
        "",
        line,
        " SUMMARY:",
        line,
        " + CONFIG:",
        f" Faults: {asked['faults']} node(s)",
        f" Committee size: {asked['nodes']} node(s)",
        f" Input rate: {asked['rate']:,} tx/s",
        f" Transaction size: {asked['tx_size']:,} B ({asked['payload']})",
        f" Execution time: {asked['duration_s']:,} s (first {asked['warm_up_s']} s not measured)",
        f" Durability: {asked['durability']}",
        f" Profile: {asked['profile']}",
        *(f" {key}: {value}" for key, value in asked["settings"].items()),
        "",
        " + RESULTS:",
        f" Consensus TPS: {round(consensus['tps']):,} tx/s",
        f" Consensus BPS: {round(consensus['bps']):,} B/s",
        *_latency("Consensus", consensus["latency_ms"]),
        "",
        f" End-to-end TPS: {round(result['committed_tps']):,} tx/s",
        f" End-to-end BPS: {round(result['committed_bps']):,} B/s",
        *_latency("End-to-end", result["latency_ms"]),
        "",
        f" Transactions: {result['offered']:,} offered, {result['submitted']:,} submitted, "
        f"{result['committed']:,} committed, {result['rejected']:,} rejected, {result['unknown']:,} unknown",
        f" Cores used: {cpu}; load generator {result['load']['cpu_s'] / result['measured_wall_s']:.2f}",
        f" Memory (MiB): {memory}",
        f" Disk (MiB): {disk}",
        f" Consistent: {'yes' if result['consistent'] else 'NO'}",
        line,
    ]
    return "\n".join(lines)


HEAD = ["nodes", "faults", "durability", "offered tx/s", "size", "committed tx/s", "p50", "p90", "p99"]
HEAD += ["cores a node", "MiB a node", "seconds", "date", "commit"]


def row(result: Result) -> list[object]:
    """One line of the table."""
    asked, nodes = result["parameters"], result["per_node"]
    cores = sum(node["cpu_s"] for node in nodes) / result["measured_wall_s"] / max(1, len(nodes))
    return [
        asked["nodes"],
        asked["faults"],
        asked["durability"],
        asked["rate"],
        asked["tx_size"],
        round(result["committed_tps"]),
        *(_ms(result["latency_ms"][name]) for name in ("p50", "p90", "p99")),
        f"{cores:.3f}",
        round(sum(node["rss_mib"] for node in nodes) / max(1, len(nodes))),
        asked["duration_s"],
        result["started_at"][:10],
        result["commit"],
    ]


def markdown(results: list[Result]) -> str:
    """All results as a table for a document."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for result in results:
        cells = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row(result))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def why_failed(result: Result) -> str | None:
    """Nothing for a run whose figures mean something; else why they do not."""
    if not result["consistent"]:
        return str(result["inconsistency"])
    if result["offered"] and not result["committed"]:
        return "nothing was committed: look at the logs of the nodes with `fab logs`"
    if result["broken"]:
        return f"a connection of the load generator broke: {result['broken'][0]}"
    if result["unknown"]:
        return f"{result['unknown']:,} transactions have no receipt"
    return None


def remarks(result: Result) -> list[str]:
    """What a reader of the figures should know."""
    notes = []
    behind = result["offered"] - result["submitted"]
    if behind > result["parameters"]["rate"] // 10:
        notes.append(f"the rate was not kept: {behind:,} transactions were due and never sent; latency leaves them out")
    if result["rejected"]:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in result["rejected_by_reason"].items())
        notes.append(f"{result['rejected']:,} transactions were refused: {reasons}")
    if result["parameters"]["durability"] == "synced" and result["file_system"] in ("tmpfs", "ramfs"):
        notes.append("the data is on a memory file system: synced means nothing there")
    return notes
