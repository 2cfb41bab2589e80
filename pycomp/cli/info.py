"""``pycomp info``."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add(commands: Any) -> None:
    parser = commands.add_parser("info", help="what pycomp runs on here: backends, instruction sets, threads, kernels")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    import pycomp

    found = pycomp.info()
    print(json.dumps(found, indent=1) if arguments.json else "\n".join(lines(found)))
    return 0


def lines(found: dict[str, Any]) -> list[str]:
    backends = (name if reason is None else f"{name} (no: {reason})" for name, reason in found["backends"].items())
    levels = (name if usable else f"{name} (not on this machine)" for name, usable in found["isa_levels"].items())
    return [
        f"pycomp   {found['version']}",
        f"backends {', '.join(backends)}",
        f"levels   {', '.join(levels) or 'none'}; in use: {found['isa']}",
        f"threads  {found['threads']}, {'with' if found['openmp'] else 'without'} OpenMP",
        "kernels",
        *(f"  {name}: {', '.join(having)}" for name, having in found["kernels"].items()),
    ]
