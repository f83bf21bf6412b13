"""Latencies out of buckets."""

import unittest

import bench  # noqa: F401  (puts scripts/ on the path)
from bench.histogram import Histogram, grown, of_stage, together
from cluster.endpoint import parse_metrics

TEXT = """
# HELP rorqual_stage_latency_seconds Seconds that own batches spent in a stage
# TYPE rorqual_stage_latency_seconds histogram
rorqual_stage_latency_seconds_bucket{stage="sealed_to_committed",le="0.01"} 50
rorqual_stage_latency_seconds_bucket{stage="sealed_to_committed",le="0.02"} 90
rorqual_stage_latency_seconds_bucket{stage="sealed_to_committed",le="+Inf"} 100
rorqual_stage_latency_seconds_sum{stage="sealed_to_committed"} 1.5
rorqual_stage_latency_seconds_count{stage="sealed_to_committed"} 100
rorqual_round 12
"""


class HistogramTest(unittest.TestCase):
    def test_reads_what_nodes_export(self) -> None:
        histogram = of_stage(parse_metrics(TEXT), "sealed_to_committed")
        assert histogram is not None
        self.assertEqual(histogram.bounds, (0.01, 0.02, float("inf")))
        self.assertEqual(histogram.mean(), 0.015)
        self.assertAlmostEqual(histogram.quantile(0.5) or 0, 0.01)
        self.assertAlmostEqual(histogram.quantile(0.7) or 0, 0.015)
        self.assertAlmostEqual(histogram.quantile(0.99) or 0, 0.02)
        self.assertIsNone(of_stage(parse_metrics(TEXT), "unknown"))

    def test_growth_and_sum(self) -> None:
        one = Histogram((1.0, float("inf")), (10.0, 20.0), 30.0)
        two = Histogram((1.0, float("inf")), (15.0, 40.0), 70.0)
        self.assertEqual(grown(one, two), Histogram(one.bounds, (5.0, 20.0), 40.0))
        self.assertEqual(grown(None, two), two)
        self.assertEqual(together([one, None, two]), Histogram(one.bounds, (25.0, 60.0), 100.0))
        self.assertIsNone(together([None]))

    def test_nothing_measured_is_not_zero(self) -> None:
        empty = Histogram((1.0, float("inf")), (0.0, 0.0), 0.0)
        self.assertIsNone(empty.mean())
        self.assertIsNone(empty.quantile(0.5))


if __name__ == "__main__":
    unittest.main()
