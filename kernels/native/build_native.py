"""cffi builder: the declarations are read from the public C header, so they cannot drift from it."""

import re
from pathlib import Path

from cffi import FFI

INCLUDE = Path(__file__).resolve().parents[2] / "csrc" / "include" / "pycomp"


def kernels() -> dict[str, str]:
    """Name -> parameter list, as kernels.def declares them."""
    table = re.sub(r"/\*.*?\*/", "", (INCLUDE / "kernels.def").read_text(encoding="utf-8"), flags=re.S)
    return dict(re.findall(r"PC_KERNEL(?:_DOT)?\(\s*(\w+),\s*(\([^)]*\)),", table))


def declarations() -> str:
    header = (INCLUDE / "pycomp.h").read_text(encoding="utf-8")
    fixed = header.partition("/* <cdef>")[2].partition("*/")[2].partition("/* </cdef> */")[0]
    table = "".join(f"int pc_{name}{parameters};\n" for name, parameters in kernels().items())
    return fixed.replace("PC_API ", "") + table


# What the binding takes from Python is weak, so that a C program can link the module without Python.
PYTHON = ("PyArg_UnpackTuple", "PyErr_Format", "PyErr_Occurred", "PyEval_RestoreThread", "PyEval_SaveThread",
          "PyExc_TypeError", "PyFloat_AsDouble", "PyFloat_FromDouble", "PyImport_ImportModule", "PyLong_FromLong",
          "PyLong_FromLongLong", "PyLong_FromVoidPtr", "PyObject_CallMethod", "PyObject_Free", "PyObject_Malloc",
          "_Py_Dealloc", "_Py_NoneStruct")
WEAK = "#ifdef __ELF__\n" + "".join(f"#pragma weak {name}\n" for name in PYTHON) + "#endif\n"

ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "pycomp.kernels.native._core", WEAK + '#include "pycomp/pycomp.h"\n', include_dirs=["csrc/include"]
)
