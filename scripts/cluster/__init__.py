"""Clusters of real rorqual processes on this machine, for people, for tests and for benchmarks.

Standard library only. What is started here is known by process id *and* start time: nothing else is ever signalled.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class ClusterError(Exception):
    """What went wrong, in one sentence that a person can act on."""
