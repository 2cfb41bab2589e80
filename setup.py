"""Build of the C core: every file of csrc/kernels is compiled once per instruction-set level.

At a level that only adds a dot product of bytes to another, its base, those alone are compiled that use it.

Everything declarative is in pyproject.toml and csrc/levels.json; this file holds only what a table cannot say.

Environment variables:
    PYCOMP_REQUIRE_NATIVE  a failed build of the core is an error, instead of a package that runs on Numba
    PYCOMP_WERROR          compiler warnings are errors
    PYCOMP_NO_OPENMP       build a core that runs on one thread
    PYCOMP_ARCH            the target architecture, where it is not the build host's
"""

import json
import os
import platform
import re
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_ext import build_ext

# Relative on purpose: setuptools refuses absolute source paths in an sdist.
CSRC = Path("csrc")
FLAGS = json.loads((CSRC / "levels.json").read_text(encoding="utf-8"))
# Python's own flags let signed integers wrap, and loops then make their addresses anew: products of few rows of codes
# take a sixth longer.
COMMON = [*FLAGS["common"], "-fno-wrapv", *(["-Werror"] if os.environ.get("PYCOMP_WERROR") else [])]
if "CFLAGS" not in os.environ:
    # Python's own flags ask for debug information: eight times the size and a third of the time.
    COMMON.append("-g0")
# Linking under a user's -ffast-math or -Ofast would add code that flushes denormals in the whole process.
LINK = ["-O3", "-fno-fast-math", "-fno-unsafe-math-optimizations", "-lm"]
VERSION = re.search(r'^version = "(.+)"$', Path("pyproject.toml").read_text(encoding="utf-8"), re.M)[1]


def levels() -> list[dict]:
    """The target's rows of csrc/levels.json, lowest first."""
    # The target, not the build host: cross builds set these.
    arch = os.environ.get("PYCOMP_ARCH") or os.environ.get("_PYTHON_HOST_PLATFORM") or platform.machine()
    if re.search(r"x86_64|amd64", arch, re.I):
        return FLAGS["x86_64"]
    if re.search(r"aarch64|arm64", arch, re.I):
        return FLAGS["aarch64"]
    return FLAGS["other"]


class BuildCore(build_ext):
    """build_ext that adds the per-level objects to the extension's link line."""

    def build_extension(self, ext):
        try:
            self.build_core(ext)
        except Exception as error:
            if os.environ.get("PYCOMP_REQUIRE_NATIVE"):
                raise
            print(f"\npycomp: THE C CORE WAS NOT BUILT (...{str(error)[-160:]}).\n"
                  "pycomp: the package installs and runs on Numba (pip install 'pycomp[jit]'), slower.\n"
                  "pycomp: for the C core, install a C compiler (GCC or clang) and reinstall; "
                  "PYCOMP_REQUIRE_NATIVE=1 shows the error in full.\n", file=sys.stderr)
            self.extensions.remove(ext)
            # A core that an earlier build left behind must not pass for this one.
            left = Path(self.get_ext_fullpath(ext.name))
            for file in (left, Path("kernels/native", left.name)) if self.editable_mode else (left,):
                file.unlink(missing_ok=True)
            # What is left is plain Python: the wheel must not be tagged as if it held the core.
            if wheel := self.distribution.get_command_obj("bdist_wheel", create=False):
                wheel.root_is_pure = True

    def build_core(self, ext):
        openmp = self.openmp_flags()
        include = [str(CSRC / "include"), str(CSRC / "simd"), str(CSRC / "runtime")]
        built = [level for level in levels() if not level.get("optional") or self.accepts(level["flags"])]
        names = "".join(f"X({level['name']})" for level in built)
        macros = [("PC_LEVELS", names), ("PC_VERSION", f'"{VERSION}"')]
        work = [("runtime", source, macros, openmp) for source in sorted(CSRC.glob("runtime/*.c"))]
        for level in built:
            defines = [("PC_LEVEL", level["name"]), ("PC_SIMD", level["simd"])]
            sources = sorted(CSRC.glob("kernels/*.c"))
            if base := level.get("base"):
                defines.append(("PC_BASE", base))  # whose kernels the table takes for the rest
                sources = [source for source in sources if source.name in FLAGS["dot_product"]]
            work += [(level["name"], source, defines, openmp + level["flags"]) for source in sources]

        def compile_one(item):
            # One folder a level, or the levels would overwrite each other's objects.
            group, source, defines, flags = item
            return self.compiler.compile([str(source)], output_dir=os.path.join(self.build_temp, group),
                                         include_dirs=include, macros=defines, extra_preargs=COMMON + flags,
                                         depends=[str(h) for h in CSRC.rglob("*.[hd]*")])

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = [pool.submit(compile_one, item) for item in work]
            try:
                objects = [o for job in jobs for o in job.result()]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        ext.extra_objects = [*(ext.extra_objects or []), *objects]
        ext.extra_link_args = [*(ext.extra_link_args or []), *openmp, *LINK]
        ext.depends = [*ext.depends, *map(str, CSRC.rglob("*.*"))]
        super().build_extension(ext)

    def openmp_flags(self):
        if os.environ.get("PYCOMP_NO_OPENMP"):
            return []
        flags = ["-fopenmp"]
        if self.accepts(flags, "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"):
            return flags
        self.announce("pycomp: no OpenMP; building a core that runs on one thread", level=3)
        return []

    def accepts(self, flags, program="int main(void) { return 0; }\n"):
        """Whether the compiler takes these flags, and makes a program."""
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.c")
            probe.write_text(program)
            try:
                objects = self.compiler.compile([str(probe)], output_dir=folder, extra_preargs=flags)
                self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=flags)
            except Exception:
                self.announce(f"pycomp: the compiler does not take {' '.join(flags)}", level=3)
                return False
        return True


setup(
    packages=[*find_packages(include=["pycomp", "pycomp.*"]), "pycomp.include",
              "pycomp.kernels", *("pycomp.kernels." + p for p in find_packages("kernels"))],
    package_dir={"pycomp": "pycomp", "pycomp.include": "csrc/include", "pycomp.kernels": "kernels"},
    package_data={"pycomp": ["py.typed"], "pycomp.compare": ["*.j2"], "pycomp.include": ["pycomp/*"],
                  "pycomp.kernels.native": ["*.pyi"]},
    cffi_modules=["kernels/native/build_native.py:ffibuilder"],
    cmdclass={"build_ext": BuildCore},
    # The stable ABI does not exist for free-threaded builds before 3.15.
    options={"bdist_wheel": {"py_limited_api": False if sysconfig.get_config_var("Py_GIL_DISABLED") else "cp310"}},
)
