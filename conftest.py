"""Tests run against the installed package, also with `python -m pytest`."""

import sys
from pathlib import Path

root = Path(__file__).resolve().parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != root]
