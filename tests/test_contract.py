"""What every kernel of the contract must keep, on every backend and instruction-set level."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pycomp
from pycomp import pruning, quantization
from pycomp._validate import ACTIVATIONS
from pycomp.distillation._rows import Distance
from pycomp.kernels import dispatch, jit, native
from pycomp.kernels.contract import KERNELS
from pycomp.kernels.entry import NanError
from pycomp.kernels.reference import distillation as reference
from pycomp.kernels.reference import pruning as norms
from pycomp.pruning.masks import NORMS
from pycomp.testing import assert_within_bound, cases, conformance, edge_sizes, make_case, nudged
from pycomp.testing.cases import middle_sizes, shared_case

ROOT = Path(__file__).resolve().parents[1]
LEVELS = native.levels() if native.missing() is None else {}
IMPLEMENTATIONS = [("native", level) for level in LEVELS] + [("jit", None)]
each_kernel = pytest.mark.parametrize("kernel", KERNELS)
each_implementation = pytest.mark.parametrize(("backend", "level"), IMPLEMENTATIONS, ids=lambda v: str(v or "numba"))


@pytest.fixture
def function(kernel, backend, level):
    """The implementation under test; afterwards the call must have run on the backend and level it was meant for."""
    if reason := dispatch.missing(backend):
        pytest.skip(reason)
    if level is not None and not LEVELS[level]:
        pytest.skip(f"this CPU lacks {level}")
    pycomp.set_isa(level)
    yield dispatch.implementations(kernel)[backend]
    if backend == "native":
        assert native.level() == level
    pycomp.set_isa(None)


def base(case):
    """What every implementation must reproduce: the promised chain where one is stated, else one thread of C."""
    if case.kernel.chain is not None:
        return case.run(case.kernel.chain)
    with pycomp.threads(1):
        return case.run(dispatch.implementations(case.kernel.name)["native"])


def same_bits(got, expected):
    """Equal bits, any NaN being equal to any other: which NaN is not promised."""
    return all(
        y.shape == e.shape and y.dtype == e.dtype
        and bool(((y.view(f"u{y.itemsize}") == e.view(f"u{y.itemsize}")) | ((y != y) & (e != e))).all())
        for y, e in zip(got, expected, strict=True)
    )


def set_apart(a, gap):
    """A copy of a matrix whose rows lie further apart."""
    wide = np.full((a.shape[0], a.shape[1] + gap), 99, a.dtype)
    wide[:, : a.shape[1]] = a
    return wide[:, : a.shape[1]]


def backwards(a):
    """A copy of a matrix in negative strides."""
    return np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1]


def every_other(a):
    """A copy of a matrix whose columns lie apart."""
    return np.repeat(a, 2, axis=1)[:, ::2]


@each_kernel
def test_every_kernel_is_declared_and_implemented_everywhere(kernel):
    assert set(dispatch.implementations(kernel)) == {b for b in dispatch.BACKENDS if dispatch.missing(b) is None}


def test_kernels_def_declares_what_the_contract_says():
    text = re.sub(r"/\*.*?\*/", "", (ROOT / "csrc/include/pycomp/kernels.def").read_text(), flags=re.S)
    declared = dict(re.findall(r"PC_KERNEL(?:_DOT)?\((\w+), \(([^)]*)\), \([^)]*\)\)", text))
    names = {"f16": "uint16_t", "bf16": "uint16_t", "u16": "uint16_t", "f32": "float", "f64": "double",
             "i8": "int8_t", "u8": "uint8_t", "i32": "int32_t", "i64": "int64_t", "bool": "uint8_t"}
    expected = {}
    for kernel in KERNELS.values():
        parameters = [f"int64_t {s}" for s in kernel.sizes]
        for o in kernel.operands:
            ctype = names[o.dtype]
            if o.shape is None:
                parameters.append(f"{ctype} {o.name}")
                continue
            parameters.append(f"{'' if o.kind == 'out' else 'const '}{ctype} *{o.name}")
            strides = [[], [f"ld{o.name}"], [f"{o.name}_row", f"{o.name}_column"]][o.strides]
            parameters += [f"int64_t {stride}" for stride in strides]
        expected[kernel.name] = ", ".join(parameters)
    assert declared == expected


@each_implementation
@each_kernel
def test_errors_stay_within_the_stated_bound_at_every_edge_size(kernel, backend, level, function):
    slow = level == "generic"
    conformance(kernel, function, limit=15 if slow else 60)


@each_kernel
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_errors_stay_within_the_stated_bound_on_any_sizes(kernel, data):
    sizes = {s: data.draw(st.integers(0, min(max(edges), 200)), s) for s, edges in KERNELS[kernel].edges.items()}
    case = make_case(kernel, sizes, data.draw(st.integers(0, 2**32), "seed"))
    got, reference = case.run(getattr(dispatch, kernel)), case.reference()
    for y, exact, bound in zip(got, reference, case.bound(reference), strict=True):
        assert_within_bound(y, exact, bound, repr(case))


@each_implementation
@each_kernel
def test_bits_are_those_of_the_chain(kernel, backend, level, function):
    for case in cases(kernel, 10):
        assert same_bits(case.run(function), base(case)), case


@pytest.mark.parametrize("threads", [2, 3])
@each_kernel
def test_bits_do_not_depend_on_threads(kernel, threads):
    function = dispatch.implementations(kernel)["native"]
    for case in [*cases(kernel, 10), shared_case(kernel)]:
        with pycomp.threads(1):
            alone = case.run(function)
        native.lib.pc_most_threads()
        with pycomp.threads(threads):
            assert same_bits(case.run(function), alone), case
    assert native.lib.pc_most_threads() > 1 or not pycomp.info()["openmp"]


@each_implementation
@pytest.mark.parametrize("kernel", [k for k in KERNELS if KERNELS[k].batch])
def test_a_row_alone_equals_the_row_in_a_batch(kernel, backend, level, function):
    entry = KERNELS[kernel]
    for seed, sizes in enumerate(edge_sizes(kernel, 4)):
        case = make_case(kernel, {**sizes, entry.batch: max(7, sizes[entry.batch])}, seed)
        whole = case.run(function)
        for piece in (slice(0, 1), slice(3, 5), slice(2, None)):
            alone = case.rows(piece).run(function)
            for operand, y, part in zip(entry.outputs, whole, alone, strict=True):
                axis = operand.shape.index(entry.batch)
                assert same_bits((part,), (y[(slice(None),) * axis + (piece,)].copy(),)), (case, piece)


@each_implementation
@each_kernel
def test_bits_do_not_depend_on_alignment_or_strides(kernel, backend, level, function):
    for case in list(cases(kernel, 5)):
        expected = case.run(function)
        for count in (1, 3):
            moved = case.moved(lambda a, count=count: nudged(a, count))
            assert same_bits(moved.run(function), expected), case
        strided = [set_apart(v, 5) if o.strides and isinstance(v, np.ndarray) else v
                   for o, v in zip(case.kernel.inputs, case.inputs, strict=True)]
        outputs = [set_apart(y, 3) if o.strides else y
                   for o, y in zip(case.kernel.outputs, case.outputs(), strict=True)]
        function(*strided, *outputs)
        assert same_bits([np.ascontiguousarray(y) for y in outputs], expected), case
        for o, y in zip(case.kernel.outputs, outputs, strict=True):
            if o.strides and y.base is not None:
                assert (y.base[:, y.shape[1] :] == 99).all(), f"{case}: {o.name} was written past its rows"
        any_strides = any(o.strides == 2 for o in case.kernel.inputs)
        for turned in (np.asfortranarray, backwards, every_other) if any_strides else ():
            inputs = [turned(v) if o.strides == 2 else v for o, v in zip(case.kernel.inputs, case.inputs, strict=True)]
            outputs = case.outputs()
            function(*inputs, *outputs)
            assert same_bits(outputs, expected), f"{case}, {turned.__name__}"


def good_arguments(kernel):
    """What a kernel in C takes, by name: sizes, then operands and their strides; arrays as such. It does take them."""
    case = make_case(kernel, middle_sizes(kernel))
    arguments = {size: case.sizes[size] for size in case.kernel.sizes}
    inputs, outputs = iter(case.inputs), iter(case.outputs())
    for o in case.kernel.operands:
        value = next(outputs if o.kind == "out" else inputs)
        arguments[o.name] = value if o.shape is None or value is None else np.ascontiguousarray(value)
        names = [[], [f"ld{o.name}"], [f"{o.name}_row", f"{o.name}_column"]][o.strides]
        arguments |= {name: arguments[o.name].strides[i] // value.itemsize for i, name in enumerate(names)}
    assert status(kernel, arguments) == native.lib.PC_OK
    return arguments


def status(kernel, arguments):
    ffi = native.ffi
    given = [ffi.NULL if a is None else ffi.cast("void *", ffi.from_buffer(a)) if isinstance(a, np.ndarray) else a
             for a in arguments.values()]
    return getattr(native.lib, f"pc_{kernel}")(*given)


@each_kernel
def test_c_refuses_sizes_that_would_be_unsafe(kernel):
    arguments = good_arguments(kernel)
    for size in KERNELS[kernel].sizes:
        assert status(kernel, arguments | {size: -1}) == native.lib.PC_EINVAL, size


@each_kernel
def test_c_refuses_rows_that_would_overlap(kernel):
    arguments = good_arguments(kernel)
    for name in (f"ld{o.name}" for o in KERNELS[kernel].operands if o.strides == 1):
        assert status(kernel, arguments | {name: arguments[name] - 1}) == native.lib.PC_EINVAL, name


GRIDS = [k for k in KERNELS if any(o.name in ("y_scale", "low") for o in KERNELS[k].inputs)]


@pytest.mark.parametrize("kernel", GRIDS)
def test_c_refuses_grids_that_have_no_codes(kernel):
    arguments = good_arguments(kernel)
    wrong = [{"low": 5, "high": -5}] if "low" in arguments else [
        *({"y_scale": scale} for scale in (0.0, -1.0, np.nan, np.inf)),
        *({"y_zero": zero} for zero in (-129, 256, -1 if kernel.endswith("u8") else 128))]
    for values in wrong:
        assert status(kernel, arguments | values) == native.lib.PC_EINVAL, values


@pytest.mark.parametrize("backend", ["native", "jit", "reference"])
def test_what_is_not_a_number_gives_none(backend):
    if (why := dispatch.missing(backend)) is not None:
        pytest.skip(why)
    x = np.array([[1, np.nan, 2], [0, 0, 0], [3, 4, 0]], np.float32)
    inverse, unit, sign = np.empty(3), np.empty_like(x), np.empty((1, 3, 3), np.float32)
    losses, slopes = np.empty(2), np.empty((2, 3))
    known = np.array([[np.nan, 0.5], [0.25, 0.5]]), np.array([[0, 1], [0, 1]])
    pycomp.set_backend(backend)
    try:
        dispatch.unit_rows_f32(x, inverse, unit)
        dispatch.attention_map_grad_f32(x[None], 1, np.ones((1, 3)), sign)
        dispatch.top_k_kl_grad_f64(np.zeros((2, 3)), *known, np.ones(2), np.ones(2), losses, slopes)
    finally:
        pycomp.set_backend(None)
    np.testing.assert_array_equal(inverse, [np.nan, 0, 0.2])
    np.testing.assert_array_equal(unit[:2], [[np.nan] * 3, [0] * 3])
    np.testing.assert_array_equal(sign[0], np.sign(x))
    np.testing.assert_array_equal(np.isnan(losses), [True, False])
    np.testing.assert_array_equal(np.isnan(slopes), [[True] * 3, [False] * 3])


def wrong_element(function):
    def broken(*operands):
        function(*operands)
        y = operands[-1]
        if y.size:
            y.flat[y.size - 1] = ~y.flat[y.size - 1] if y.dtype.kind in "biu" else 1.5 * y.flat[y.size - 1] + 1e-3

    return broken


def changed_input(function):
    def broken(*operands):
        function(*operands)
        for a in operands[:-1]:
            if isinstance(a, np.ndarray) and a.size:
                a.flat[0] = ~a.flat[0] if a.dtype.kind in "biu" else a.flat[0] + 1
                return

    return broken


def nothing_done(function):
    return lambda *operands: None


@pytest.mark.parametrize("breaking", [wrong_element, changed_input, nothing_done])
@each_kernel
def test_a_broken_kernel_is_caught(kernel, breaking):
    with pytest.raises(AssertionError, match="make_case"):
        conformance(kernel, breaking(dispatch.implementations(kernel)["native"]), limit=0)


@pytest.mark.skipif(bool(jit.missing()), reason="Numba is not installed")
@each_kernel
def test_forced_backend_is_the_one_that_runs(kernel):
    case = next(iter(cases(kernel, 0)))
    for backend in dispatch.BACKENDS:
        try:
            pycomp.set_backend(backend)
            case.run(getattr(dispatch, kernel))
            assert pycomp.info(last=True) == {
                "kernel": kernel, "backend": backend, "isa": native.level() if backend == "native" else None}
        finally:
            pycomp.set_backend(None)


def test_a_backend_chosen_while_a_kernel_is_looked_up_is_the_one_that_runs(monkeypatch):
    noting = dispatch._noting

    def interrupted(kernel):
        found = noting(kernel)
        monkeypatch.undo()
        pycomp.set_backend("reference")  # as another thread may
        return found

    try:
        pycomp.set_backend("native")
        monkeypatch.setattr(dispatch, "_noting", interrupted)
        next(iter(cases("gemm_f32", 0))).run(dispatch.gemm_f32)
        assert pycomp.info(last=True)["backend"] == "reference"
        pycomp.set_backend("native")
        next(iter(cases("gemm_f32", 0))).run(dispatch.gemm_f32)
        assert pycomp.info(last=True)["backend"] == "native"
    finally:
        pycomp.set_backend(None)


@pytest.mark.parametrize("backend", dispatch.BACKENDS)
@pytest.mark.parametrize(("kernel", "operand"), [
    ("topk_mask_f32", "scores"), ("nm_mask_f32", "scores"), ("quantize_s8", "x"), ("quantize_columns_u8", "x"),
    ("fake_quantize_f32", "x"), ("fake_quantize_columns_f32", "x"), ("fake_quantize_backward_f32", "x"),
    ("gemm_u8s8_s8", "bias"),
])
def test_nan_that_has_no_meaning_is_an_error_of_its_own(kernel, operand, backend):
    if reason := dispatch.missing(backend):
        pytest.skip(reason)
    entry = KERNELS[kernel]
    case = make_case(entry, {s: 2 if s == "g" else 4 for s in entry.sizes})
    inputs = [np.full(4 if a is None else a.shape, np.nan, np.float32) if o.name == operand else a
              for o, a in zip(entry.inputs, case.inputs, strict=True)]
    with pytest.raises(NanError, match="holds NaN"):
        dispatch.implementations(kernel)[backend](*inputs, *case.outputs())


SQUARE = np.eye(4, dtype=np.float32)
TO_CODES = {"output_dtype": "int8", "output_scale": 1.0}


@pytest.mark.parametrize(("kernel", "call"), [
    ("linear_dynamic_s8", lambda: quantization.Linear(SQUARE, **TO_CODES)(SQUARE)),
    ("linear_static_s8", lambda: quantization.Linear(SQUARE, input_scale=1.0, **TO_CODES)(SQUARE)),
    ("gemm_s8s8_s8", lambda: quantization.Linear(SQUARE, **TO_CODES)(quantization.quantize(SQUARE))),
    ("quantize_s8", lambda: quantization.quantize(SQUARE, scale=1.0)),
    ("fake_quantize_backward_f32", lambda: quantization.fake_quantize_backward(SQUARE, SQUARE, 1.0)),
    ("topk_mask_f32", lambda: pruning.unstructured_mask(SQUARE, 0.5)),
])
def test_sizes_that_the_core_refuses_are_not_told_as_nan(monkeypatch, kernel, call):
    def refuse(*operands):
        native.fail(kernel, native.lib.PC_EINVAL)

    noting = dispatch._noting
    monkeypatch.setattr(dispatch, kernel, refuse)
    monkeypatch.setattr(dispatch, "_noting", lambda name, held=None: refuse if name == kernel else noting(name, held))
    with pytest.raises(ValueError, match="the C core refused an argument"):
        call()


def numbers(enum):
    """Name -> number of an enum of pycomp.h."""
    return {name.removeprefix("PC_"): number for name, number in native.ffi.typeof(enum).relements.items()}


def test_distances_have_the_numbers_of_the_header():
    declared = numbers("pc_divergence")
    assert {d.name: d.value for d in Distance} == declared
    assert {name: getattr(reference, name) for name in declared} == declared
    if not jit.missing():
        from pycomp.kernels.jit import divergence

        assert {name: getattr(divergence, name) for name in declared} == declared


def test_norms_have_the_numbers_of_the_header():
    declared = numbers("pc_norm")
    assert {name.lower(): number for name, number in declared.items()} == NORMS
    assert {name: getattr(norms, name) for name in declared} == declared
    if not jit.missing():
        from pycomp.kernels.jit import pruning as compiled

        assert (declared["L1"], declared["L2"]) == (compiled.L1, compiled.L2)


def test_activations_have_the_numbers_of_the_header():
    declared = {name.lower(): number for name, number in numbers("pc_activation").items()}
    assert declared | {None: declared["identity"]} == ACTIVATIONS


def test_a_mask_that_is_not_written_is_noticed():
    for value in (False, True):
        def writes_one_value(*operands, value=value):
            *inputs, mask = operands
            whole = np.empty(mask.shape, np.bool_)
            dispatch.topk_mask_f32(*inputs, whole)
            mask[whole == value] = value

        with pytest.raises(AssertionError, match="topk_mask_f32"):
            conformance("topk_mask_f32", writes_one_value)
