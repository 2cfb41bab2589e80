"""No kernel reads or writes past the arrays that it is given, and memory of its own is made in one place."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pycomp.kernels import native
from pycomp.kernels.contract import KERNELS

GUARDED = Path(__file__).with_name("guarded.py")


@pytest.mark.skipif(bool(native.missing()), reason=str(native.missing()))
@pytest.mark.skipif(sys.platform != "linux", reason="written for Linux")
@pytest.mark.parametrize("family", sorted({kernel.family for kernel in KERNELS.values()}))
def test_kernels_stay_inside_their_arrays(family):
    names = [name for name, kernel in KERNELS.items() if kernel.family == family]
    done = subprocess.run([sys.executable, GUARDED, *names], text=True, capture_output=True, timeout=300)
    assert done.stdout.endswith("done\n"), f"{done.stdout[-400:]}exit status {done.returncode}\n{done.stderr[-2000:]}"


def test_memory_is_made_in_heap_h(core):
    made = re.compile(r"\b(malloc|calloc|realloc|aligned_alloc)\b")
    assert [f.name for f in (core.path / "kernels").iterdir() if made.search(f.read_text())] == ["heap.h"]
