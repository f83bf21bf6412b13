"""The operator endpoint of a node: readiness, facts, metrics."""

import json
import re
import urllib.error
import urllib.request
from typing import Any

_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Nodes are on this machine: whatever proxy the environment names is not meant.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Labels = frozenset[tuple[str, str]]
Metrics = dict[tuple[str, Labels], float]


def get(address: str, path: str, timeout: float = 2.0) -> tuple[int, str]:
    """Status code and body; code 0 and the reason where nobody answers."""
    try:
        with _OPENER.open(f"http://{address}{path}", timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(getattr(error, "reason", error))


def readiness(address: str) -> str | None:
    """Nothing if the node is ready, else what is missing."""
    code, body = get(address, "/readyz")
    if code == 200:
        return None
    if code == 0:
        return f"no answer from {address}"
    missing = [line.removeprefix("[-] ") for line in body.splitlines() if line.startswith("[-]")]
    return "; ".join(missing) or f"HTTP {code}"


def liveness(address: str) -> str | None:
    """Nothing if the node serves, ready or not."""
    code, _ = get(address, "/livez")
    return None if code == 200 else f"no answer from {address}"


def status(address: str) -> dict[str, Any] | None:
    """Facts of the node; nothing where it does not answer."""
    code, body = get(address, "/status")
    try:
        return json.loads(body) if code == 200 else None
    except json.JSONDecodeError:
        return None


def parse_metrics(text: str) -> Metrics:
    """Samples of the Prometheus text format by name and labels."""
    samples: Metrics = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            try:
                value = float(match[3])
            except ValueError:
                continue
            samples[match[1], frozenset(_LABEL.findall(match[2] or ""))] = value
    return samples


def metrics(address: str) -> Metrics:
    """All samples of the node; none where it does not answer."""
    code, body = get(address, "/metrics")
    return parse_metrics(body) if code == 200 else {}
