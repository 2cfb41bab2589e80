"""Wheels built in several ways: what they hold, where they run, and that all of them give the same bits."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pycomp.kernels import dispatch

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SMOKE = Path(__file__).with_name("smoke.py")
LEFT_OUT = shutil.ignore_patterns(".git", ".*_cache", ".hypothesis", ".venv", "build", "dist", "*.egg-info", "*.so",
                                  "__pycache__")
TRAPPED = "-fsanitize=signed-integer-overflow,shift -fsanitize-undefined-trap-on-error"
"""Of GCC: the process dies where a signed integer overflows, which no level may count on to wrap."""
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")
needs_clang = pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed")


class Build:
    """One wheel, built from a copy of the sources under the given environment variables, and unpacked."""

    def __init__(self, folder, edit=None, **environment):
        self.source = folder / "source"
        shutil.copytree(ROOT, self.source, ignore=LEFT_OUT)
        if edit:
            edit(self.source)
        clean = {k: v for k, v in os.environ.items() if k not in ("CC", "CFLAGS") and not k.startswith("PYCOMP_")}
        self.run = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "-v", "--no-build-isolation", "--no-deps", "-w", folder, "."],
            cwd=self.source, text=True, capture_output=True, env={**clean, **environment}, check=False)
        self.output = self.run.stdout + self.run.stderr
        if self.run.returncode:
            return
        (self.wheel,) = folder.glob("*.whl")
        self.site = folder / "site"
        with zipfile.ZipFile(self.wheel) as archive:
            self.names = archive.namelist()
            archive.extractall(self.site)

    def python(self, *arguments, **environment):
        """What a Python prints that has this wheel first on its path."""
        done = subprocess.run([sys.executable, *arguments], text=True, capture_output=True, check=False, cwd=self.site,
                              env={**os.environ, "PYTHONPATH": str(self.site), **environment})
        assert done.returncode == 0, done.stderr
        return done.stdout

    def bits(self, **environment):
        """Kernel -> hash, and the backends that ran."""
        rows = [line.split() for line in self.python(SMOKE, **environment).splitlines()]
        return {kernel: sha for kernel, _, sha in rows}, {backend for _, backend, _ in rows}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    build = Build(tmp_path_factory.mktemp("default"), PYCOMP_REQUIRE_NATIVE="1")
    assert build.run.returncode == 0, build.output
    return build


def test_wheel_is_for_the_stable_abi_and_holds_headers_and_types(built):
    assert "-cp310-abi3-" in built.wheel.name
    assert {"pycomp/py.typed", "pycomp/include/pycomp/pycomp.h", "pycomp/include/pycomp/kernels.def",
            "pycomp/kernels/native/_core.abi3.so", "pycomp/kernels/native/_core.pyi"} <= set(built.names)
    assert {name.split("/")[0].split("-")[0] for name in built.names} == {"pycomp"}
    assert not [name for name in built.names if "test_" in name]


def test_sdist_holds_all_that_a_build_and_a_test_need(built, tmp_path):
    code = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=built.source, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    expected = {"csrc/levels.json", "csrc/include/pycomp/kernels.def", "csrc/simd/scalar.h", "kernels/contract.py",
                "conftest.py", "tests/packaging/smoke.py", "CHANGELOG.md", "LICENSE", "pyproject.toml"}
    assert expected <= names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc"))]


@pytest.mark.skipif(not shutil.which("nm"), reason="nm is not installed")
def test_each_level_exports_only_names_of_its_own(built):
    (objects,) = (built.source / "build").glob("temp*")
    folders = [folder for folder in objects.iterdir() if (folder / "csrc/kernels").is_dir()]
    assert len(folders) > 1
    for folder in folders:
        files = list((folder / "csrc/kernels").glob("*.o"))
        listing = subprocess.run(["nm", "-g", "--defined-only", *files], text=True, capture_output=True, check=True)
        names = [line.split()[2] for line in listing.stdout.splitlines() if len(line.split()) == 3]
        assert names
        assert [name for name in names if not name.endswith(f"_{folder.name}")] == []


def as_of_another_maker(source):
    """Kernels take the ways that they have for the CPUs of whoever did not make this one."""
    file = source / "csrc/runtime/cpu.c"
    text = file.read_text()
    assert text.count("return once(&answer, is_amd);") == 1
    file.write_text(text.replace("return once(&answer, is_amd);", "return !once(&answer, is_amd);"))


@pytest.mark.parametrize(("edit", "environment"), [
    pytest.param(as_of_another_maker,
                 {"PYCOMP_NO_OPENMP": "1", "CFLAGS": f"-Ofast -funsafe-math-optimizations {TRAPPED}"}, marks=needs_gcc,
                 id="one thread, under -Ofast, no integer overflows, the ways of another maker's CPUs"),
    pytest.param(None, {"CC": "clang"}, marks=needs_clang, id="clang"),
])
def test_other_builds_give_the_same_bits(built, edit, environment, tmp_path):
    other = Build(tmp_path, edit, PYCOMP_REQUIRE_NATIVE="1", **environment)
    assert other.run.returncode == 0, other.output
    assert other.bits() == built.bits()
    if "PYCOMP_NO_OPENMP" in environment:
        code = "import pycomp; print(pycomp.info()['openmp'], pycomp.get_num_threads())"
        assert other.python("-c", code, PYCOMP_NUM_THREADS="3").split() == ["False", "1"]
    denormal = "import numpy as np; x = np.float32(1e-40); import pycomp; pycomp.info(); print(x * np.float32(1) == x)"
    assert other.python("-c", denormal) == "True\n"


def test_without_a_compiler_it_installs_says_so_and_runs_on_numba_with_the_same_bits(built, tmp_path):
    def built_before(source):
        shutil.copytree(built.source / "build", source / "build")

    bare = Build(tmp_path, built_before, CC="/bin/false")
    assert bare.run.returncode == 0, bare.output
    assert "THE C CORE WAS NOT BUILT" in bare.output
    assert bare.wheel.name.endswith("-py3-none-any.whl")
    why = bare.python("-c", "import pycomp; print(pycomp.info()['backends']['native'])")
    assert why.startswith("the C core was not built")
    if dispatch.missing("jit"):
        pytest.skip(dispatch.missing("jit"))
    assert bare.bits() == (built.bits()[0], {"jit"})


def test_a_typo_in_a_kernel_is_an_error_where_the_core_is_required(tmp_path):
    def typo(source):
        with open(source / "csrc/kernels/activation.c", "a") as file:  # the first to be compiled
            file.write("int x\n")

    build = Build(tmp_path, typo, PYCOMP_REQUIRE_NATIVE="1")
    assert build.run.returncode != 0
    assert "activation.c" in build.output


PROGRAM = r"""
#include <stdio.h>
#include "pycomp/pycomp.h"
int main(void) {
  const float w[2 * 3] = {1, 2, 3, 4, 5, 7}, x[2] = {-1, 1};
  float packed[2 * 16], y[3];
  if (pc_pack_f32(2, 3, w, 3, 1, packed)) return 1;
  if (pc_gemm_f32(1, 2, 3, x, 2, packed, NULL, PC_RELU, y, 3)) return 2;
  if (pc_gemm_f32(-1, 2, 3, x, 2, packed, NULL, PC_RELU, y, 3) != PC_EINVAL) return 3;
  printf("%g %g %g\n", (double)y[0], (double)y[1], (double)y[2]);
  return 0;
}
"""


@pytest.mark.parametrize("command", [
    pytest.param(["gcc", "-std=c11"], marks=needs_gcc),
    pytest.param(["clang", "-std=c11"], marks=needs_clang),
    pytest.param(["gcc", "-x", "c++"], marks=needs_gcc),
], ids=" ".join)
def test_a_c_program_links_the_wheel_without_python(built, command, tmp_path):
    include, library = built.python("-c", "import pycomp; print(pycomp.get_include(), pycomp.get_library())").split()
    (tmp_path / "program.c").write_text(PROGRAM)
    options = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", include]
    subprocess.run([*command, *options, "program.c", "-x", "none", library, "-o", "program"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "program"], text=True, capture_output=True, check=True).stdout == "3 3 4\n"


def find_python(version):
    """A Python of this version that can make environments: on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for candidate in [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python{version}")]:
        if candidate and not subprocess.run([candidate, "-c", "import ensurepip"], capture_output=True).returncode:
            return candidate
    return None


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_one_wheel_runs_on_every_python_with_numpy_and_cffi_alone(built, version, tmp_path):
    interpreter = find_python(version)
    if interpreter is None:
        pytest.skip(f"Python {version} is not installed")
    subprocess.run([interpreter, "-m", "venv", tmp_path], check=True)
    python = tmp_path / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", built.wheel], check=True)
    packages = subprocess.run([python, "-m", "pip", "freeze"], text=True, capture_output=True, check=True).stdout
    names = {line.split()[0].partition("==")[0] for line in packages.splitlines()}
    assert names == {"cffi", "numpy", "pycomp", "pycparser"}
    done = subprocess.run([python, SMOKE], text=True, capture_output=True, check=True, cwd=tmp_path)
    assert done.stdout == built.python(SMOKE)
