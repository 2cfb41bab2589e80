"""The whole C core as a plain C program, without Python, on CPUs that this machine is not: the same bits.

The program is written from the contract: it reads records of operands, calls the kernel, and answers with its outputs.
"""

import functools
import math
import os
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pycomp.kernels import dispatch, native
from pycomp.kernels.contract import KERNELS
from pycomp.testing import cases

pytestmark = pytest.mark.skipif(bool(native.missing()), reason=str(native.missing()))
CTYPES = {"f16": "uint16_t", "bf16": "uint16_t", "u16": "uint16_t", "f32": "float", "f64": "double",
          "i8": "int8_t", "u8": "uint8_t", "i32": "int32_t", "i64": "int64_t", "bool": "uint8_t"}
PER_KERNEL = 12

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include "pycomp/pycomp.h"

static void get(void *to, size_t bytes) { if (fread(to, 1, bytes, stdin) != bytes) exit(9); }
static int64_t whole(void) { int64_t x; get(&x, sizeof x); return x; }
static double real(void) { double x; get(&x, sizeof x); return x; }
/* An array of its own exact size, so that a checker of memory sees a step past its end; NULL for a length below 0. */
static void *array(int64_t *bytes) {
  *bytes = whole();
  if (*bytes < 0) return NULL;
  void *a = malloc((size_t)*bytes + (*bytes == 0));
  if (!a) exit(8);
  get(a, (size_t)*bytes);
  return a;
}
static void put(const void *from, int64_t bytes) { fwrite(from, 1, (size_t)bytes, stdout); }
static void put_status(int status) { const int64_t s = status; put(&s, sizeof s); }

%s
int main(void) {
  int64_t command;
  for (int i = 0; pc_level_name(i); i++) printf("%%s=%%d ", pc_level_name(i), pc_level_supported(pc_level_name(i)));
  printf("%%s\n", pc_level());
  while (fread(&command, sizeof command, 1, stdin) == 1) switch (command) {
    case -1: put_status(pc_set_level(pc_level_name((int)whole()))); break;
%s
    default: return 7;
  }
  return 0;
}
"""


def caller(kernel):
    """A C function that reads a record of this kernel and answers it."""
    body = [f"  const int64_t {s} = whole();" for s in kernel.sizes]
    arguments = [*kernel.sizes]
    for o in kernel.operands:
        ctype = CTYPES[o.dtype]
        if o.shape is None:
            body.append(f"  const {ctype} {o.name} = ({ctype}){'real' if o.dtype[0] == 'f' else 'whole'}();")
        else:
            body.append(f"  int64_t {o.name}_bytes; {ctype} *{o.name} = array(&{o.name}_bytes);")
        arguments.append(o.name)
        for i in range(o.strides):
            body.append(f"  const int64_t {o.name}_{i} = whole();")
            arguments.append(f"{o.name}_{i}")
    body.append(f"  put_status(pc_{kernel.name}({', '.join(arguments)}));")
    body += [f"  put({o.name}, {o.name}_bytes);" for o in kernel.outputs]
    body += [f"  free({o.name});" for o in kernel.operands if o.shape is not None]
    return f"static void call_{kernel.name}(void) {{\n" + "\n".join(body) + "\n}\n"


def program():
    functions = "\n".join(caller(k) for k in KERNELS.values())
    return PROGRAM % (functions, "\n".join(f"    case {i}: call_{k}(); break;" for i, k in enumerate(KERNELS)))


def record(case):
    """The bytes that the program reads for a case."""
    parts = [struct.pack("=q", list(KERNELS).index(case.kernel.name))]
    parts += [struct.pack("=q", case.sizes[s]) for s in case.kernel.sizes]
    for o, value in zip(case.kernel.operands, (*case.inputs, *case.outputs()), strict=True):
        if o.shape is None:
            parts.append(struct.pack("=d" if o.dtype[0] == "f" else "=q", value))
            continue
        if value is None:
            parts.append(struct.pack("=q", -1))
            continue
        value = np.ascontiguousarray(value)
        parts.append(struct.pack("=q", value.nbytes) + value.tobytes())
        parts += [struct.pack("=q", math.prod(value.shape[i + 1 :])) for i in range(o.strides)]
    return b"".join(parts)


def normal(y):
    """Bytes, every NaN as the same one."""
    y = y.copy()
    if y.dtype.kind == "f":
        y[y != y] = np.nan
    return y.tobytes()


@pytest.fixture(scope="module")
def program_for(core, tmp_path_factory):
    @functools.cache
    def build(machine, compiler):
        folder = tmp_path_factory.mktemp(machine)
        (folder / "program.c").write_text(program())

        def compile_one(pair):
            level, source = pair
            return core.compile(folder / f"{level['name']}_{source.stem}.o", [source], ["-c"], level=level,
                                compiler=compiler)

        pairs = [(level, source) for level in core.levels(machine).values() for source in core.kernels(level)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, pairs))
        names = "".join(f"X({name})" for name in core.levels(machine))
        sources = [folder / "program.c", *sorted((core.path / "runtime").glob("*.c")), *objects]
        options = ["-static", f"-DPC_LEVELS={names}", '-DPC_VERSION="test"']
        return core.compile(folder / "program", sources, options, compiler=compiler)

    return build


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "cpu", "compiler", "usable"), [
    ("x86_64", "Haswell", "gcc", ["generic", "avx2"]),
    ("x86_64", "Westmere", "gcc", ["generic"]),
    ("aarch64", "max", "aarch64-linux-gnu-gcc", ["generic", "neon"]),
    ("aarch64", "cortex-a53", "aarch64-linux-gnu-gcc", ["generic"]),
])
def test_core_on_an_emulated_cpu_has_the_bits_of_this_one(machine, cpu, compiler, usable, core, emulated, program_for):
    levels = core.levels(machine)
    tried = [case for kernel in KERNELS for case in cases(kernel, PER_KERNEL)]
    records = b"".join(map(record, tried))
    given = b"".join(struct.pack("=qq", -1, list(levels).index(level)) + records for level in usable)
    answer = emulated(program_for(machine, compiler), machine, cpu, given)

    listed, _, answer = answer.partition(b"\n")
    *found, chosen = listed.decode().split()
    assert found == [f"{name}={int(name in usable)}" for name in levels]
    assert chosen == usable[-1]
    expected = [case.run(dispatch.implementations(case.kernel.name)["native"]) for case in tried]
    for level in usable:
        assert answer[:8] == bytes(8), f"{level} was refused"
        answer = answer[8:]
        for case, outputs in zip(tried, expected, strict=True):
            assert answer[:8] == bytes(8), (level, case)
            answer = answer[8:]
            for y in outputs:
                got = np.frombuffer(answer[: y.nbytes], y.dtype).reshape(y.shape)
                assert normal(got) == normal(y), (level, case)
                answer = answer[y.nbytes :]
    assert answer == b""
