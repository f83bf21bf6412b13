"""Checks that the arrows between our crates point one way, and that what must stay pure stays pure."""

import json
import subprocess
import sys
from typing import Any

# crate -> the crates of this workspace it may use, in any form (tests included).
MAY_USE: dict[str, set[str]] = {
    "rorqual-config": set(),
    "rorqual-store": set(),
    "rorqual-network": {"rorqual-config"},
    "rorqual-protocol": {"rorqual-config"},
    "rorqual-client": {"rorqual-config", "rorqual-network"},
    "rorqual-node": {"rorqual-config", "rorqual-store", "rorqual-network", "rorqual-protocol", "rorqual-client"},
    "rorqual-benchmark": {"rorqual-config", "rorqual-network", "rorqual-client", "rorqual-node"},
}

# crate -> packages that it must not reach, directly or through others (its tests may).
MUST_NOT_REACH: dict[str, set[str]] = {
    "rorqual-config": {"tokio", "rocksdb"},
    "rorqual-protocol": {"tokio", "rocksdb", "rand", "rustls"},
    "rorqual-network": {"rocksdb"},
    "rorqual-client": {"rocksdb"},
}


def edges(metadata: dict[str, Any], *, tests: bool) -> dict[str, set[str]]:
    """For each package id the ids it uses; with `tests`, also those that only its tests use."""
    graph: dict[str, set[str]] = {}
    for node in metadata["resolve"]["nodes"]:
        used = set()
        for dependency in node["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            if tests or kinds != {"dev"}:
                used.add(dependency["pkg"])
        graph[node["id"]] = used
    return graph


def path(graph: dict[str, set[str]], names: dict[str, str], start: str, goal: str) -> list[str] | None:
    """Names along a shortest way from the package id `start` to a package called `goal`."""
    ways = {start: [names[start]]}
    queue = [start]
    for package in queue:
        for used in sorted(graph.get(package, ())):
            if used in ways:
                continue
            ways[used] = [*ways[package], names[used]]
            if names[used] == goal:
                return ways[used]
            queue.append(used)
    return None


def problems(metadata: dict[str, Any]) -> list[str]:
    """One sentence for each arrow that should not be."""
    names = {package["id"]: package["name"] for package in metadata["packages"]}
    members = {names[package]: package for package in metadata["workspace_members"]}
    found = []
    every = edges(metadata, tests=True)
    for name, package in members.items():
        if name not in MAY_USE:
            found.append(f"{name} is a new crate: give it a place in scripts/lib/layering.py")
            continue
        own = {names[used] for used in every[package]} & set(members)
        found.extend(f"{name} must not use {used}" for used in sorted(own - MAY_USE[name] - {name}))
    shipped = edges(metadata, tests=False)
    for name, forbidden in MUST_NOT_REACH.items():
        for goal in sorted(forbidden):
            way = path(shipped, names, members[name], goal) if name in members else None
            if way:
                found.append(f"{name} must not depend on {goal}, but does: {' -> '.join(way)}")
    return found


def main() -> int:
    rustc = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = next(line.split()[1] for line in rustc.splitlines() if line.startswith("host:"))
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        return 1
    found = problems(json.loads(result.stdout))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
