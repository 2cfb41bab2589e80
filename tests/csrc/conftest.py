"""What tests of the C core share: its sources and flags, and a compiler that a missing one skips."""

import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
TABLE = json.loads((CSRC / "levels.json").read_text())
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())


class Core:
    """The C core's sources, compiled with its own flags."""

    path = CSRC
    machine = MACHINE

    @staticmethod
    def levels(machine=MACHINE):
        """Name -> row of levels.json, lowest first."""
        return {level["name"]: level for level in TABLE.get(machine, TABLE["other"])}

    @staticmethod
    def kernels(level):
        """The files that are compiled at this level."""
        files = sorted((CSRC / "kernels").glob("*.c"))
        return [file for file in files if "base" not in level or file.name in TABLE["dot_product"]]

    @staticmethod
    def compile(output, sources, options=(), *, level=None, compiler="gcc"):
        """Compile and link, with the flags of a level; skips where the compiler is absent."""
        if not shutil.which(compiler):
            pytest.skip(f"{compiler} is not installed")
        flags = [*TABLE["common"], "-Werror", f"-I{CSRC / 'include'}", f"-I{CSRC / 'simd'}", f"-I{CSRC / 'runtime'}"]
        if level is not None:
            flags += [*level["flags"], f"-DPC_LEVEL={level['name']}", f"-DPC_SIMD={level['simd']}",
                      f"-DPC_BASE={level.get('base', level['name'])}"]
        done = subprocess.run([compiler, *flags, *options, *map(str, sources), "-lm", "-o", str(output)],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return output


@pytest.fixture(scope="session")
def core():
    return Core


@pytest.fixture(scope="session")
def emulated():
    """Runs a program on a CPU that this machine is not; skips where the emulator is absent."""

    def run(program, machine, cpu, given):
        emulator = f"qemu-{machine}-static"
        if not shutil.which(emulator):
            pytest.skip(f"{emulator} is not installed")
        done = subprocess.run([emulator, "-cpu", cpu, program], input=given, capture_output=True, timeout=240)
        assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
        return done.stdout

    return run
