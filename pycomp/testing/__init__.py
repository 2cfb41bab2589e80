"""Tools that hold a kernel to its promises: pycomp's own, or one of yours.

:func:`conformance` runs any function against a kernel's float64 reference and stated bound; the rest are the metrics it
is made of.
"""

from .cases import Case, cases, edge_sizes, make_case, nudged
from .conformance import conformance
from .metrics import ErrorReport, assert_within_bound, error_report, ulp_distance

__all__ = [
    "Case",
    "ErrorReport",
    "assert_within_bound",
    "cases",
    "conformance",
    "edge_sizes",
    "error_report",
    "make_case",
    "nudged",
    "ulp_distance",
]
