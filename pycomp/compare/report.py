"""The report as files: HTML that stands alone, JSON, PNG. Each appears whole or not at all."""

from __future__ import annotations

import base64
import json
import os
import platform
import zlib
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import pycomp
from pycomp._files import write_whole
from pycomp._runtime import processor
from pycomp._validate import choice

from . import advice
from .engine import Comparison, Row
from .measure import Proportion
from .plots import FAMILIES, draw

FILES = ("report.html", "report.json", "accuracy-size.png", "accuracy-latency.png", "accuracy-temperature.png")
"""What a report consists of; the last where students were distilled at several temperatures."""


@dataclass(frozen=True)
class Report:
    """A comparison with what a reader needs beside it: the goal, the machine, the command.

    Attributes
    ----------
    comparison : Comparison
    goal : "size", "latency" or "accuracy"
        What to recommend for first.
    command : str
        The command that makes the report again, to be shown in it.

    Raises
    ------
    ValueError
        If the goal is another.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from pycomp.compare import Comparison, Row, Settings
    >>> from pycomp.compare.measure import Latency, Proportion, Spread
    >>> latency = Latency(seconds=Spread(1e-4, 1e-4, 1e-4), speedup=Spread(1.0, 1.0, 1.0))
    >>> teacher = Row("teacher", "baseline", "as trained", parameters=1000, dense_bytes=4000, stored_bytes=4000,
    ...               zlib_bytes=3600, accuracy=Proportion(97, 100), agreement=Proportion(100, 100),
    ...               latency={1: latency})
    >>> int8 = replace(teacher, name="int8", family="quantization", stored_bytes=1000)
    >>> comparison = Comparison(Settings(batches=(1,)), {"name": "digits"}, (teacher, int8), sweep=(), seconds=0.0)
    >>> report = Report(comparison, "size", "pycomp compare --goal size")
    >>> [found.goal for found in report.recommendations()]
    ['size', 'latency', 'accuracy']
    >>> report.results()["variants"][1]["bytes"]
    {'dense': 4000, 'stored': 1000, 'zlib': 3600}
    """

    comparison: Comparison
    goal: str
    command: str

    def __post_init__(self) -> None:
        choice(self.goal, "goal", advice.GOALS)

    def recommendations(self) -> list[advice.Recommendation]:
        """For every goal, the asked one first."""
        goals = sorted(advice.GOALS, key=lambda goal: goal != self.goal)
        return [advice.recommend(self.comparison, goal) for goal in goals]

    def results(self) -> dict[str, Any]:
        """What does not depend on the machine or the moment; sizes after zlib depend on its build, see ``machine``."""
        return {"settings": asdict(self.comparison.settings), "data": self.comparison.data,
                "variants": [_result(row) for row in self.comparison.rows],
                "temperatures": [{"temperature": t, "accuracy": _proportion(p)} for t, p in self.comparison.sweep]}

    def timings(self) -> dict[str, Any]:
        """What was measured in this run: times and speed-ups of every variant, and seconds of the whole."""
        rows = {row.name: {f"batch {batch}": asdict(latency) for batch, latency in row.latency.items()}
                for row in self.comparison.rows}
        return {"variants": rows, "total_seconds": self.comparison.seconds}

    def json(self) -> str:
        """The whole report; ``results`` is the same on every run (with the same zlib), the rest is about this one."""
        whole = {"results": self.results(), "timings": self.timings(),
                 "recommendations": [asdict(r) for r in self.recommendations()],
                 "slower": advice.slower(self.comparison), "unsteady": advice.unsteady(self.comparison),
                 "machine": machine(), "command": self.command}
        return json.dumps(whole, indent=1, ensure_ascii=False, default=np.generic.item) + "\n"

    def html(self, charts: dict[str, bytes]) -> str:
        """The report as a page that stands alone.

        Parameters
        ----------
        charts : dict from str to bytes
            The PNG files of the report by their names.

        Returns
        -------
        str

        Raises
        ------
        ImportError
            If Jinja2 is not installed.
        """
        from jinja2 import Environment, StrictUndefined

        source = resources.files(__package__).joinpath("template.html.j2").read_text("utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        environment.filters.update(share=advice.share, size=advice.size, duration=advice.duration,
                                   times=advice.times)
        inlined = {name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in charts.items()}
        return environment.from_string(source).render(
            comparison=self.comparison, recommendations=self.recommendations(), charts=inlined, machine=machine(),
            slower=advice.slower(self.comparison), unsteady=advice.unsteady(self.comparison),
            command=self.command, version=pycomp.__version__,
            colours={family: colour for family, (colour, _) in FAMILIES.items()})

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write all files of the report; everything is made before the first is written.

        Parameters
        ----------
        folder : path
            It must exist.

        Returns
        -------
        list of Path
            The files.

        Raises
        ------
        ImportError
            If Matplotlib or Jinja2 is not installed.
        OSError
            If a file cannot be written.
        """
        folder = Path(folder)
        charts = draw(self.comparison)
        contents = {"report.html": self.html(charts).encode(), "report.json": self.json().encode(), **charts}
        for name, content in contents.items():
            write_whole(folder / name, content)
        return [folder / name for name in contents]


def _result(row: Row) -> dict[str, Any]:
    return {"name": row.name, "family": row.family, "how": row.how, "parameters": row.parameters,
            "bytes": {"dense": row.dense_bytes, "stored": row.stored_bytes, "zlib": row.zlib_bytes},
            "accuracy": _proportion(row.accuracy), "agreement": _proportion(row.agreement)}


def _proportion(p: Proportion) -> dict[str, Any]:
    return {"hits": p.hits, "total": p.total, "value": p.value, "interval_95": list(p.interval)}


def machine() -> dict[str, str]:
    """What timings depend on, and sizes after zlib."""
    info = pycomp.info()
    backend = pycomp.info(last=True)["backend"] or "none"
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "threads": str(info["threads"]),
        "backend": f"{backend}, level {info['isa']}" if backend == "native" else backend,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "pycomp": pycomp.__version__,
    }
