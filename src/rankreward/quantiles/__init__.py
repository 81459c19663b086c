"""Ranks in a rolling history.

Goes in: metric values (B, N). Comes out: their ranks (B, N) in [0, 1] against a window of recent
rows that stands still within a step. `ecdf` is the pure function, `QuantileService` the window.
"""

from rankreward.quantiles.ecdf import Ties, ecdf
from rankreward.quantiles.service import FlushStats, QuantileService
from rankreward.quantiles.summary import MetricSummary

__all__ = ["FlushStats", "MetricSummary", "QuantileService", "Ties", "ecdf"]
