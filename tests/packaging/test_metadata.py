"""What is written in two places says the same in both."""

import json
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import pycomp
from pycomp.kernels import native

ROOT = Path(__file__).resolve().parents[2]
LEVELS = json.loads((ROOT / "csrc/levels.json").read_text())
needs_core = pytest.mark.skipif(bool(native.missing()), reason=str(native.missing()))


def test_the_version_is_the_same_everywhere():
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert pycomp.__version__ == declared == version("pycomp") == pycomp.info()["version"]
    assert f"## [{declared}]" in (ROOT / "CHANGELOG.md").read_text()
    if native.missing() is None:
        assert native.ffi.string(native.lib.pc_version()).decode() == declared


@needs_core
def test_the_core_has_the_levels_of_the_table_in_its_order():
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine())
    assert list(native.levels()) == [level["name"] for level in LEVELS.get(machine, LEVELS["other"])]


def test_every_level_has_its_vocabulary_and_its_needs():
    needs = (ROOT / "csrc/runtime/table.h").read_text()
    for level in (level for target in ("x86_64", "aarch64", "other") for level in LEVELS[target]):
        assert (ROOT / f"csrc/simd/{level['simd']}.h").is_file()
        assert f"PC_NEEDS_{level['name']} =" in needs


def test_what_uses_the_dot_product_is_compiled_where_a_level_adds_it():
    sources = {file.name: file.read_text() for file in (ROOT / "csrc/kernels").iterdir()}
    users = {name for name, text in sources.items() if re.search(r"\b(?:vi_dot|dot_add)|__AMX_INT8__", text)}
    users |= {name for name, text in sources.items() if any(f'#include "{header}"' in text for header in users)}
    assert {name for name in users if name.endswith(".c")} | {"table.c"} == set(LEVELS["dot_product"])
    kernels = re.findall(r"PC_KERNEL(_DOT)?\((\w+),", (ROOT / "csrc/include/pycomp/kernels.def").read_text())
    found = {name for _, name in kernels if re.search("[us]8[us]8|pack_s8", name)}
    assert {name for mark, name in kernels if mark} == found
    for target in ("x86_64", "aarch64", "other"):
        below = {level["name"]: level for level in LEVELS[target]}
        for level in (level for level in LEVELS[target] if "base" in level):
            assert level["simd"] == below[level["base"]]["simd"]
            assert set(level["flags"]) > set(below[level["base"]]["flags"])


@needs_core
@pytest.mark.skipif(not shutil.which("nm") or platform.system() != "Linux", reason="needs nm on Linux")
def test_the_module_exports_the_interface_alone():
    listing = subprocess.run(["nm", "-D", pycomp.get_library()], text=True, capture_output=True, check=True).stdout
    symbols = [line.split()[-2:] for line in listing.splitlines()]
    text = "".join((ROOT / "csrc/include/pycomp" / file).read_text() for file in ("pycomp.h", "kernels.def"))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    kernels = re.findall(r"PC_KERNEL(?:_DOT)?\((\w+), \(", text)
    interface = {*re.findall(r"\b(pc_\w+)\(", text), *(f"pc_{kernel}" for kernel in kernels)}
    exported = {name for kind, name in symbols if kind in "TDBRVWi"}
    assert exported == interface | {"PyInit__core"}
    needed = [name for kind, name in symbols if kind == "U" and re.match("_?Py", name)]
    assert needed == [], "add them to PYTHON in kernels/native/build_native.py"
