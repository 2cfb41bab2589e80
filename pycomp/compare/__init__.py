"""Pruning, quantization and distillation on one real model: size, latency, accuracy. The engine of ``pycomp compare``.

>>> from pycomp.compare import load, run, settings_for
>>> comparison = run(settings_for("digits", quick=True), load("digits"))  # doctest: +SKIP
"""

from .advice import GOALS, Recommendation, recommend
from .data import NAMES, Dataset, load
from .engine import Comparison, Progress, Row, run
from .report import Report
from .settings import Plan, Settings, settings_for

__all__ = [
    "GOALS",
    "NAMES",
    "Comparison",
    "Dataset",
    "Plan",
    "Progress",
    "Recommendation",
    "Report",
    "Row",
    "Settings",
    "load",
    "recommend",
    "run",
    "settings_for",
]
