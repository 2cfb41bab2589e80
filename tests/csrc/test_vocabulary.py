"""Every operation of csrc/simd gives the bits of its scalar definition, on every level."""

import ctypes
import functools
import itertools
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from pycomp.kernels import native

HERE = Path(__file__).resolve().parent
SIMD = HERE.parents[1] / "csrc" / "simd"
PROBE = HERE / "probe.c"
HEADERS = ("scalar", "avx2", "avx512", "neon")
LEVELS = native.levels() if native.missing() is None else {}

SPECIAL_FLOATS = np.array([
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, 0.49999997, 8388607.5, -8388608.0, 16777216.0, 1e-45, -1e-45,
    1.1754942e-38, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 1 + 2**-23, 1e-20, np.inf, -np.inf, np.nan], np.float32)
SPECIAL_DOUBLES = np.array([  # halfway between floats, at every range of them
    0.0, -0.0, 1.0, -1.0, 1 + 2**-24, 1 + 3 * 2**-24, -1 - 2**-24 - 2**-52, 2.0**-150, 1.5 * 2.0**-149,
    -(2.0**-126) + 2.0**-150, 3.4028235677973366e38, 3.4028235677973362e38, 1e300, 5e-324, np.inf, -np.inf, np.nan])
SPECIAL_INTS = np.array([0, 1, -1, 2, 127, 128, 255, 256, -128, 32767, 65536, 16777217, 2**31 - 1, -(2**31),
                         -(2**31) + 1, 0x7F80FF01, 0x55555555], np.int32)
SPECIAL_BYTES = np.array([0, 1, 2, 64, 127, 128, 129, 254, 255], np.uint8)


def operations(header):
    """Names in order; the two ways of one operation, chosen by the preprocessor, count once."""
    text = (SIMD / f"{header}.h").read_text()
    return list(dict.fromkeys(re.findall(r"^PC_INLINE +\w+ +(v[fimdq]_\w+)\(", text, re.M)))


OPERATIONS = operations("scalar")
COUNTED = [name for name in OPERATIONS if name.endswith("_n")]


def combined(special, arity, random):
    """Every combination of the special values, in every lane by rotation, then random bits; as vectors of 16."""
    rows = np.array(list(itertools.product(special, repeat=arity)), special.dtype)
    columns = [np.concatenate([rows[:, i], random[i]]) for i in range(arity)]
    return [np.ascontiguousarray(np.resize(c, -(-len(c) // 16) * 16)).reshape(-1, 16) for c in columns]


def lanes_of(op):
    """Three operands, each of shape (vectors, 16), on which the operation has a meaning."""
    rng = np.random.default_rng(0)
    bits = [rng.integers(0, 2**32, 4096, dtype=np.uint32).view(np.int32) for _ in range(3)]
    floats = combined(SPECIAL_FLOATS, 2, [b.view(np.float32) for b in bits[:2]])
    ints = combined(SPECIAL_INTS, 2, bits[:2])
    if op in ("vf_fma", "vf_fma1", "vf_fnma", "vq_fma1"):
        near = [(rng.standard_normal(4096) * 2.0 ** rng.integers(-70, 70, 4096)).astype(np.float32) for _ in range(3)]
        return combined(SPECIAL_FLOATS, 3, near)
    if op == "vi_dot_u8s8":  # extremes in every one of the 64 positions, and sums that wrap
        extreme = [rng.choice(SPECIAL_BYTES, 65536).view(np.int32).reshape(-1, 16) for _ in range(2)]
        return np.resize(bits[0], extreme[0].shape), *extreme
    if op == "vf_scale2":
        x = (rng.standard_normal(8000) * 2.0 ** rng.integers(-18, 18, 8000)).astype(np.float32)
        x = x[(np.abs(x) >= 2.0**-20) & (np.abs(x) <= 2.0**20)]
        x = np.resize(np.concatenate([x, np.array([0, -0.0, np.nan, 1, 2**20, -(2**-20)], np.float32)]), 321 * 16)
        n = np.repeat(np.arange(-160, 161), 16).astype(np.float32)
        return x.reshape(-1, 16), n.reshape(-1, 16), x.reshape(-1, 16)
    if op == "vi_codes":
        near = [rng.integers(-400, 400, 4096).astype(np.int32) for _ in range(3)]
        return combined(SPECIAL_INTS, 3, near)
    if op == "vi_from_vf":
        x = [*np.arange(-4096, 4096) / 2, *rng.uniform(-(2**31), 2**31 - 200, 8192), -(2.0**31), 2**31 - 128]
        x = np.resize(x, 1025 * 16).astype(np.float32).reshape(-1, 16)
        return x, x, x
    if op in ("vd_set1", "vd_add", "vd_sub", "vd_mul", "vd_div", "vd_fma", "vd_max", "vd_select_lt", "vd_scale2",
              "vf_from_vd",
              "vd_load", "vd_store"):
        near = [rng.standard_normal(4096) * 2.0 ** rng.integers(-155, 130, 4096) for _ in range(3)]
        return combined(SPECIAL_DOUBLES, 3, near)
    if "gather" in op or op in ("vf_take", "vf_take_of_two", "vf_expand", "vf_spread"):  # any places, or bits
        x = np.resize(rng.permutation(np.concatenate([SPECIAL_FLOATS, bits[0].view(np.float32)])), (4096, 16))
        return x, rng.integers(-(2**31), 2**31, x.shape).astype(np.int32), x[::-1]
    if op == "vm_from_bits":
        return [np.arange(2**16, dtype=np.int32).repeat(16).reshape(-1, 16)] * 3
    if op == "vf_load_f16":
        return [np.arange(2**16).astype(np.uint16).view(np.int32).reshape(-1, 8).repeat(2, axis=1)] * 3
    if op == "vd_add_vf":
        doubles, _ = combined(SPECIAL_DOUBLES, 2, [rng.standard_normal(4096)] * 2)
        return doubles, np.resize(floats[0], doubles.shape), doubles
    if op == "vd_fold_add":
        x = rng.standard_normal((512, 16)) * 10.0 ** rng.integers(-15, 15, (512, 16))
        return x, x, x
    if op.startswith("vf_fold"):  # every order of adding shows
        x = (rng.standard_normal(16384) * 10.0 ** rng.integers(-6, 7, 16384)).astype(np.float32).reshape(-1, 16)
        if op in ("vf_fold_max", "vf_fold_min"):
            x = np.concatenate([x, rng.choice(SPECIAL_FLOATS[:-1], (1024, 16))])
        return x, x, x
    if op in ("vf_select", "vi_select"):
        values = floats if op == "vf_select" else ints
        return *values, rng.integers(-1, 2, values[0].shape).astype(np.int32)
    if op in ("vm_and", "vm_or", "vm_bits"):
        return [rng.integers(-1, 2, (512, 16)).astype(np.int32) for _ in range(3)]
    of_floats = op.startswith(("vf_", "vq_")) and op not in ("vf_from_vi", "vf_from_bits")
    if of_floats or op in ("vi_from_bits", "vd_from_vf"):
        return *floats, floats[0]
    if op == "vi_shr_each":
        return ints[0], ints[1] & 31, ints[0]
    if op == "vi_mul_fraction":
        return ints[0], ints[1] & 0x7FFFFFFF, ints[0]
    return *ints, ints[0]


def counts_of(op):
    if op in ("vi_shl", "vi_shr"):
        return range(32)
    if op == "vf_one_of":
        return range(4)
    if op in ("vf_fma1", "vq_fma1"):
        return range(16)
    if op == "vi_codes":
        return range(2)  # unsigned, signed
    return range(18) if op == "vm_first" else range(17) if op in COUNTED else (0,)


def vectors(a):
    """One vector a row of 128 bytes."""
    rows = np.zeros((len(a), 128), np.uint8)
    rows[:, : a.shape[1] * a.itemsize] = np.ascontiguousarray(a).view(np.uint8)
    return rows


def comparable(op, out):
    """Output bits; of floats, every NaN as the same one, since which NaN is not promised."""
    if out.dtype != np.uint8:
        out = vectors(out)
    kind = np.float64 if op.startswith("vd_") else np.float32 if op.startswith(("vf_", "vq_")) else np.uint32
    out = out.copy().view(kind)
    if op not in ("vf_lt", "vf_above", "vf_eq", "vf_unordered", "vf_isnan", "vf_store_f16_n") and kind is not np.uint32:
        out[out != out] = np.nan
    return out.tobytes()


class Probe:
    def __init__(self, core, folder, level):
        path = core.compile(folder / f"probe_{level['name']}.so", [PROBE], ["-shared", "-fPIC"], level=level)
        self.function = ctypes.CDLL(str(path)).probe

    def __call__(self, op, operands, n=0):
        operands = [vectors(a) for a in operands]
        out = np.zeros(operands[0].shape, np.uint8)
        self.raw(op, len(out), *(a.ctypes.data for a in operands), n, out.ctypes.data)
        return comparable(op, out)

    def raw(self, op, count, a, b, c, n, out):
        pointers = (ctypes.c_void_p(p) for p in (a, b, c))
        status = self.function(op.encode(), ctypes.c_int64(count), *pointers, ctypes.c_int64(n), ctypes.c_void_p(out))
        assert status == 0, f"{op} is not probed"


@pytest.fixture(scope="module")
def probe_of(core, tmp_path_factory):
    folder = tmp_path_factory.mktemp("probes")
    return functools.cache(lambda name: Probe(core, folder, core.levels()[name]))


@pytest.fixture
def probe(level, probe_of):
    if not LEVELS[level]:
        pytest.skip(f"this CPU lacks {level}")
    return probe_of(level)


each_level = pytest.mark.parametrize("level", LEVELS)


def test_every_header_has_the_same_operations():
    assert len(OPERATIONS) > 50
    for header in HEADERS:
        assert sorted(operations(header)) == sorted(OPERATIONS), header


@pytest.mark.parametrize("op", OPERATIONS)
def test_every_operation_is_probed(op):
    assert re.search(rf"^  [A-Z]+\({op}, ", PROBE.read_text(), re.M)


@each_level
@pytest.mark.parametrize("op", OPERATIONS)
def test_lanes_have_the_bits_of_the_definition(op, level, probe, probe_of):
    operands = lanes_of(op)
    for n in counts_of(op):
        assert probe(op, operands, n) == probe_of("generic")(op, operands, n), (op, n)


def test_definitions_are_those_of_numpy(probe_of):
    """The definition itself, where NumPy has the operation."""
    probe = probe_of("generic")
    same = {"vf_add": np.add, "vf_sub": np.subtract, "vf_mul": np.multiply, "vf_div": np.divide, "vi_add": np.add,
            "vi_sub": np.subtract, "vi_mul": np.multiply, "vi_max": np.maximum, "vi_min": np.minimum,
            "vi_and": np.bitwise_and, "vi_or": np.bitwise_or, "vi_xor": np.bitwise_xor, "vd_add": np.add,
            "vd_sub": np.subtract, "vd_mul": np.multiply, "vd_div": np.divide}
    for op, function in same.items():
        operands = lanes_of(op)
        with np.errstate(all="ignore"):
            assert probe(op, operands) == comparable(op, function(*operands[:2])), op
    a, _, _ = lanes_of("vf_store_f16_n")
    with np.errstate(all="ignore"):
        halves = a.astype(np.float16)
    got, given = np.zeros((len(a), 128), np.uint8), vectors(a)
    probe.raw("vf_store_f16_n", len(a), *[given.ctypes.data] * 3, 16, got.ctypes.data)
    assert ((got[:, :32].copy().view(np.float16) == halves) | np.isnan(halves)).all()
    a, _, _ = operands = lanes_of("vf_rint")
    with np.errstate(all="ignore"):
        assert probe("vf_rint", operands) == comparable("vf_rint", np.rint(a))
    acc, u, s = operands = lanes_of("vi_dot_u8s8")
    products = u.view(np.uint8).astype(np.int64) * s.view(np.int8)
    exact = (acc + products.reshape(len(acc), 16, 4).sum(2)).astype(np.int32)
    assert probe("vi_dot_u8s8", operands) == comparable("vi_dot_u8s8", exact)


PAGE = 4096


@pytest.fixture(scope="module")
def guarded():
    """The address of the end of a page whose next page may not be touched."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = libc.mmap(None, 2 * PAGE, 3, 0x22, -1, 0)
    assert libc.mprotect(start + PAGE, PAGE, 0) == 0
    return start + PAGE


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="written for Linux")
@each_level
@pytest.mark.parametrize("op", COUNTED)
def test_counted_operations_touch_nothing_past_the_count(op, level, probe, guarded):
    given = np.arange(1, 17, dtype=np.float32 if op == "vf_store_f16_n" else np.int32)
    size = {"vi_store_bytes_n": 1, "vi_store_halves_n": 2, "vf_store_f16_n": 2}.get(op, 4)
    for n in range(17):
        edge = guarded - n * size
        if "load" in op:
            ctypes.memmove(edge, given.ctypes.data, n * size)
            out = np.full(32, 99, np.int32)
            probe.raw(op, 1, edge, 0, 0, n, out.ctypes.data)
            assert out[:16].tolist() == [*range(1, n + 1), *[0] * (16 - n)]
        else:
            ctypes.memset(guarded - PAGE, 0xAB, PAGE)
            probe.raw(op, 1, given.ctypes.data, 0, 0, n, edge)
            page = ctypes.string_at(guarded - PAGE, PAGE)
            kept = PAGE - n * size
            assert page[:kept] == b"\xab" * kept
            assert page[kept:] == given.astype(f"{given.dtype.kind}{size}")[:n].tobytes()
            roomy = np.full(64, 0xAB, np.uint8)
            probe.raw(op, 1, given.ctypes.data, 0, 0, n, roomy.ctypes.data)
            assert (roomy[n * size :] == 0xAB).all()


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "cpu", "level", "compiler"), [
    ("x86_64", "Haswell", "avx2", "gcc"),
    ("x86_64", "Westmere", "generic", "gcc"),
    ("aarch64", "max", "neon", "aarch64-linux-gnu-gcc"),
    ("aarch64", "cortex-a53", "generic", "aarch64-linux-gnu-gcc"),
])
def test_lanes_on_an_emulated_cpu_have_the_bits_of_this_one(machine, cpu, level, compiler, core, emulated, probe_of,
                                                            tmp_path):
    program = core.compile(tmp_path / "probe", [PROBE], ["-DPROBE_MAIN", "-static"],
                           level=core.levels(machine)[level], compiler=compiler)
    given, expected = [], []
    for op in OPERATIONS:
        operands = lanes_of(op)
        for n in counts_of(op):
            header = struct.pack("=24sqq", op.encode(), n, len(operands[0]))
            given.append(header + b"".join(vectors(a).tobytes() for a in operands))
            expected.append((op, n, len(operands[0]), probe_of("generic")(op, operands, n)))
    answer = np.frombuffer(emulated(program, machine, cpu, b"".join(given)), np.uint8).reshape(-1, 128)
    for op, n, count, bits in expected:
        assert comparable(op, answer[:count]) == bits, (op, n)
        answer = answer[count:]
    assert len(answer) == 0
