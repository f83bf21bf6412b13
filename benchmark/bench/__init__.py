"""Benchmark runs of real rorqual processes.

Numbers come from receipts, from metrics and from the kernel, never from logs.
"""

import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[1]
RESULTS = BENCHMARK / "results"

# Clusters are started by the same code as scripts/local_cluster.sh.
sys.path.insert(0, str(BENCHMARK.parent / "scripts"))
