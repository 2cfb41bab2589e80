"""The caller's floating-point mode changes no result, on no thread, and is given back."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pycomp.kernels import native

HERE = Path(__file__).parent
X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM = platform.machine().lower() in ("aarch64", "arm64")
CONTROL = 0xE040 if X86 else 0x01C00000
MODES = {"flush to zero": 0x9FC0, "toward zero": 0x7F80, "up": 0x5F80, "down": 0x3F80} if X86 else {
    "flush to zero": 0x01000000, "toward zero": 0x00C00000, "up": 0x00400000, "down": 0x00800000}


@pytest.mark.skipif(bool(native.missing()), reason=str(native.missing()))
@pytest.mark.skipif(not (X86 or ARM), reason="written for x86-64 and AArch64")
@pytest.mark.parametrize(("mode", "backends"), [
    ("flush to zero", "native,jit"), ("down", "native,jit"), ("up", "native"), ("toward zero", "native"),
])
def test_mode_of_the_caller_changes_nothing(mode, backends, core, tmp_path):
    library = core.compile(tmp_path / "mode.so", [HERE / "mode.c"],
                           ["-shared", "-fPIC", "-fvisibility=default"])
    # With Numba's cache empty, all of its kernels are compiled first.
    done = subprocess.run([sys.executable, HERE / "moded.py", library, f"{MODES[mode]:x}", f"{CONTROL:x}", backends],
                          text=True, capture_output=True, timeout=600)
    assert done.stdout == "same felt\n", done.stdout + done.stderr[-2000:]
