"""cffi builder: the declarations are read from the public C header, so they cannot drift from it."""

import re
from pathlib import Path

from cffi import FFI

INCLUDE = Path(__file__).resolve().parents[2] / "csrc" / "include" / "pycomp"


def kernels() -> dict[str, str]:
    """Name -> parameter list, as kernels.def declares them."""
    table = re.sub(r"/\*.*?\*/", "", (INCLUDE / "kernels.def").read_text(encoding="utf-8"), flags=re.S)
    return dict(re.findall(r"PC_KERNEL\(\s*(\w+),\s*(\([^)]*\)),", table))


def declarations() -> str:
    header = (INCLUDE / "pycomp.h").read_text(encoding="utf-8")
    fixed = header.partition("/* <cdef>")[2].partition("*/")[2].partition("/* </cdef> */")[0]
    table = "".join(f"int pc_{name}{parameters};\n" for name, parameters in kernels().items())
    return fixed.replace("PC_API ", "") + table


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source("pycomp.kernels.native._core", '#include "pycomp/pycomp.h"', include_dirs=["csrc/include"])
