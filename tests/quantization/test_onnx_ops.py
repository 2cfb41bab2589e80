"""The ONNX operators: the formulas, other implementations where they are installed, bad input."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycomp.quantization import onnx_ops

F32 = np.float32
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "uint16": (0, 65535), "int4": (-8, 7),
          "uint4": (0, 15)}
EIGHT = st.sampled_from(["int8", "uint8"])
SEEDS = st.integers(0, 2**32 - 1)


def held(kind):
    """The dtype of unpacked values."""
    return kind.replace("int4", "int8")


def draw_codes(rng, kind, shape):
    low, high = LIMITS[kind]
    return rng.integers(low, high + 1, shape).astype(held(kind))


@st.composite
def scaled(draw):
    """x, scales and how they lie: (x shape, scale shape, axis, block_size)."""
    shape = tuple(draw(st.lists(st.integers(0, 5), min_size=1, max_size=4)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    how = draw(st.sampled_from(["tensor", "one", "axis", "blocks"]))
    block = draw(st.integers(1, 4)) if how == "blocks" else 0
    length = shape[axis]
    scale_shape = {"tensor": (), "one": (1,), "axis": (length,)}.get(how)
    if scale_shape is None:
        scale_shape = list(shape)
        scale_shape[axis] = -(-length // block)
    return shape, tuple(scale_shape), axis, block


def expanded(values, shape, axis, block):
    """The scale of each element, by the specification's words, one element at a time."""
    out = np.empty(shape, values.dtype)
    for i in np.ndindex(*shape):
        if values.shape in ((), (1,)):
            out[i] = values.reshape(())
        elif block:
            at = list(i)
            at[axis] //= block
            out[i] = values[tuple(at)]
        else:
            out[i] = values[i[axis]]
    return out


@given(scaled(), st.sampled_from(list(LIMITS)), st.booleans(), SEEDS)
@settings(deadline=None)
def test_quantize_is_the_formula_for_every_type_and_granularity(case, kind, with_zero, seed):
    shape, scale_shape, axis, block = case
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.01, 2, scale_shape).astype(F32)
    x = np.where(rng.random(shape) < 0.5, rng.integers(-20, 20, shape) * 0.5 * expanded(scale, shape, axis, block),
                 rng.standard_normal(shape) * 10.0 ** rng.integers(-1, 6)).astype(F32)
    zero = draw_codes(rng, kind, scale_shape) if with_zero else None
    y = onnx_ops.quantize_linear(x, scale, zero, axis=axis, block_size=block, output_dtype=kind)
    quotient = np.rint(x / expanded(scale, shape, axis, block)).astype(np.float64)
    offset = 0 if zero is None else expanded(zero, shape, axis, block).astype(np.float64)
    assert y.dtype == held(kind)
    assert y.shape == shape
    assert (y == np.clip(quotient + offset, *LIMITS[kind])).all()


@given(scaled(), st.sampled_from([*LIMITS, "int32"]), st.booleans(), SEEDS)
@settings(deadline=None)
def test_dequantize_is_the_formula_for_every_type_and_granularity(case, kind, with_zero, seed):
    shape, scale_shape, axis, block = case
    rng = np.random.default_rng(seed)
    scale = rng.uniform(-2, 2, scale_shape).astype(F32)
    if kind == "int32":
        x, zero = rng.integers(-(2**31), 2**31, shape).astype(np.int32), None
    else:
        x, zero = draw_codes(rng, kind, shape), draw_codes(rng, kind, scale_shape) if with_zero else None
    y = onnx_ops.dequantize_linear(x, scale, zero, axis=axis, block_size=block)
    offset = 0 if zero is None else expanded(zero, shape, axis, block).astype(np.int64)
    expected = (x.astype(np.int64) - offset).astype(F32) * expanded(scale, shape, axis, block)
    assert y.dtype == F32
    assert y.tobytes() == expected.tobytes()


@given(st.lists(st.integers(0, 6), max_size=3), st.floats(-20, 37), st.floats(-1, 1), SEEDS)
@settings(deadline=None)
def test_dynamic_quantization_is_the_formula(shape, exponent, shift, seed):
    x = ((np.random.default_rng(seed).random(shape) + shift) * 10.0**exponent).astype(F32)
    y, scale, zero = onnx_ops.dynamic_quantize_linear(x)
    low, high = min(F32(0), *x.flat) if x.size else F32(0), max(F32(0), *x.flat) if x.size else F32(0)
    expected = (high - low) / F32(255) if high > low else F32(1)
    assert scale == expected
    assert scale.shape == zero.shape == ()
    assert zero == np.rint(np.clip(F32(0) - low / expected, 0, 255))
    assert (y == np.clip(np.rint(x / expected) + F32(zero), 0, 255)).all()
    assert (y.dtype, scale.dtype, zero.dtype) == (np.uint8, np.float32, np.uint8)


def test_dynamic_quantization_of_ranges_that_have_no_scale():
    for x, scale in (([0, 0], 1), ([1e-44, 0], 1), ([], 1)):
        y, got, zero = onnx_ops.dynamic_quantize_linear(np.array(x, F32))
        assert (got, zero) == (scale, 0)
        assert not y.any()


def test_dynamic_quantization_of_next_to_nothing_beside_much_warns_of_nothing():
    with np.errstate(all="raise"):
        y, _, zero = onnx_ops.dynamic_quantize_linear(np.array([3e38, -1e-38], F32))
    assert (y.tolist(), zero) == ([255, 0], 0)


def zero_shapes(shape, along):
    """Shapes of zero points: one, one a row (along -2) or column (-1)."""
    shapes = [(), (1,)]
    if len(shape) == 2:
        shapes.append((shape[along],))
    if len(shape) >= 2:
        whole = list(shape)
        whole[-1 if along == -2 else -2] = 1
        shapes.append(tuple(whole))
    return shapes


@given(EIGHT, EIGHT, st.data(), SEEDS)
@settings(deadline=None)
def test_products_of_stacks_are_exact(stacks, a_kind, b_kind, data, seed):
    rng, shapes = np.random.default_rng(seed), data.draw(stacks)
    a, b = (draw_codes(rng, kind, shape) for kind, shape in zip((a_kind, b_kind), shapes, strict=True))
    a_shape = data.draw(st.sampled_from(zero_shapes(a.shape, -2)))
    b_shape = data.draw(st.sampled_from(zero_shapes(b.shape, -1)))
    za, zb = draw_codes(rng, a_kind, a_shape), draw_codes(rng, b_kind, b_shape)
    row = za.astype(np.int64)[:, None] if a_shape == a.shape[:1] and a.ndim == 2 else za.astype(np.int64)
    exact = np.matmul(a.astype(np.int64) - row, b.astype(np.int64) - zb)
    y = onnx_ops.matmul_integer(a, b, za, zb)
    assert y.dtype == np.int32
    assert y.shape == exact.shape
    assert (y == exact).all()
    assert (onnx_ops.matmul_integer(a, b) == np.matmul(a.astype(np.int64), b.astype(np.int64))).all()


@given(EIGHT, EIGHT, EIGHT, st.data(), SEEDS)
@settings(deadline=None)
def test_quantized_products_round_half_to_even_before_the_zero_point(stacks, a_kind, b_kind, y_kind, data, seed):
    rng, shapes = np.random.default_rng(seed), data.draw(stacks)
    a, b = (draw_codes(rng, kind, shape) for kind, shape in zip((a_kind, b_kind), shapes, strict=True))
    a_shape = data.draw(st.sampled_from(zero_shapes(a.shape, -2)))
    b_shape = data.draw(st.sampled_from(zero_shapes(b.shape, -1)))
    za, zb, zy = draw_codes(rng, a_kind, a_shape), draw_codes(rng, b_kind, b_shape), draw_codes(rng, y_kind, ())
    sa, sb = ((2.0 ** rng.integers(-3, 1, s)).astype(F32) for s in (a_shape, b_shape))
    sy = F32(2.0 ** rng.integers(3, 9))
    y = onnx_ops.qlinear_matmul(a, sa, za, b, sb, zb, sy, zy)
    rows = a_shape == a.shape[:1] and a.ndim == 2
    sums = np.matmul(a.astype(np.int64) - (za.astype(np.int64)[:, None] if rows else za.astype(np.int64)),
                     b.astype(np.int64) - zb)
    scale = (sa[:, None] if rows else sa) * sb / sy  # powers of two: exact, so every order gives this
    scale = scale.reshape(()) if scale.size == 1 else scale
    if a.ndim == 1 and scale.ndim:
        scale = scale[..., 0, :] if scale.ndim > 1 else scale
    if b.ndim == 1 and scale.ndim:
        scale = scale[..., 0]
    assert y.dtype == y_kind
    assert (y == np.clip(np.rint(sums * scale.astype(np.float64)) + int(zy), *LIMITS[y_kind])).all()


def test_quotients_are_rounded_before_the_zero_point_is_added():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], F32)
    assert onnx_ops.quantize_linear(x, F32(1), np.uint8(101)).tolist() == [101, 103, 103, 101, 99]
    assert onnx_ops.quantize_linear(x.astype(np.int32) * 3, F32(2), np.int16(1)).tolist() == [1, 3, 4, 1, -1]


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int4", "uint4"])
def test_infinity_saturates(kind):
    x = np.array([-np.inf, np.inf, -3e38, 3e38], F32)
    for scale in (F32(1), F32(2.0**-149), F32(3e38), np.float16(0.5)):
        y = onnx_ops.quantize_linear(x, scale, output_dtype=kind)
        low, high = LIMITS[kind]
        assert y[:2].tolist() == [low, high]


def test_results_without_dimensions_are_arrays():
    x = np.array(1.5, F32)
    for kind in ("int8", "int16", "int4"):
        y = onnx_ops.quantize_linear(x, F32(0.5), output_dtype=kind)
        assert (type(y), y.shape, y.dtype, y.tolist()) == (np.ndarray, (), held(kind), 3)
        for to in ("float32", "float16"):
            back = onnx_ops.dequantize_linear(y, F32(0.5), output_dtype=to)
            assert (type(back), back.shape, back.dtype, back.tolist()) == (np.ndarray, (), to, 1.5)
    line = np.arange(3, dtype=np.uint8)
    for y in (onnx_ops.matmul_integer(line, line), qlinear(a=line, b=line.astype(np.int8))):
        assert (type(y), y.shape, y.tolist()) == (np.ndarray, (), 5)


def test_the_default_axis_of_a_vector_with_one_scale_is_not_looked_at():
    assert onnx_ops.quantize_linear(np.ones(3, F32), F32(1), axis=1).tolist() == [1, 1, 1]


def test_a_block_longer_than_its_axis_is_one_block_and_takes_no_memory():
    x, scale = np.arange(6, dtype=F32).reshape(2, 3), np.array([[0.5], [2]], F32)
    for block in (3, 4, 2**63 - 1):
        y = onnx_ops.quantize_linear(x, scale, block_size=block)
        assert (y == np.rint(x / scale)).all()
        assert (onnx_ops.dequantize_linear(y, scale, block_size=block) == y * scale).all()


def test_half_precision_divides_in_the_type_of_the_scale():
    rng = np.random.default_rng(0)
    x, scale = rng.standard_normal(1000).astype(np.float16), np.float16(0.013)
    assert (onnx_ops.quantize_linear(x, scale, np.int8(3)) == np.clip(np.rint(x / scale) + 3, -128, 127)).all()
    wide = onnx_ops.quantize_linear(x, scale, np.int8(3), precision="float32")
    assert (wide == np.clip(np.rint(x.astype(F32) / F32(scale)) + 3, -128, 127)).all()
    codes = rng.integers(-128, 128, 1000).astype(np.int8)
    y = onnx_ops.dequantize_linear(codes, scale, np.int8(-7))
    assert y.dtype == np.float16
    assert (y == (codes.astype(np.float16) + np.float16(7)) * scale).all()
    assert onnx_ops.dequantize_linear(codes, scale, output_dtype="float32").dtype == np.float32


def test_types_of_ml_dtypes_go_in_and_out():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.linspace(-12, 12, 49, dtype=F32)
    for name in ("int4", "uint4"):
        zero = np.array(1, getattr(ml_dtypes, name))
        y = onnx_ops.quantize_linear(x, F32(1), zero)
        assert y.dtype == zero.dtype
        assert (y.astype(int) == np.clip(np.rint(x) + 1, *LIMITS[name])).all()
        assert (onnx_ops.dequantize_linear(y, F32(0.5), zero) == (y.astype(F32) - 1) * F32(0.5)).all()
        for kind in (zero.dtype, zero.dtype.type, name):
            y = onnx_ops.quantize_linear(x, F32(1), output_dtype=kind)
            assert y.dtype == (name.replace("4", "8") if isinstance(kind, str) else zero.dtype)
            assert (y.astype(int) == np.clip(np.rint(x), *LIMITS[name])).all()
    half = ml_dtypes.bfloat16
    scale = np.array(0.3, half)
    y = onnx_ops.quantize_linear(x.astype(half), scale, np.int8(0))
    assert (y == np.clip(np.rint((x.astype(half) / scale).astype(F32)), -128, 127)).all()
    back = onnx_ops.dequantize_linear(y, F32(0.25), output_dtype="bfloat16")
    assert back.dtype == half
    assert (back.astype(F32) == y.astype(F32) * F32(0.25)).all()


X = np.ones((2, 3), F32)
A, B = np.ones((2, 3), np.uint8), np.ones((3, 4), np.int8)
ONE, U0, I0 = F32(1), np.uint8(0), np.int8(0)


def qlinear(**changes):
    given = {"a": A, "a_scale": ONE, "a_zero_point": U0, "b": B, "b_scale": ONE, "b_zero_point": I0, "y_scale": ONE,
             "y_zero_point": U0}
    return onnx_ops.qlinear_matmul(**{**given, **changes})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: onnx_ops.quantize_linear(X.astype(np.float64), ONE), TypeError, "x has dtype float64"),
        (lambda: onnx_ops.quantize_linear([1.0], ONE), TypeError, "x is a list"),
        (lambda: onnx_ops.quantize_linear(X.astype(">f4"), ONE), TypeError, "byte-swapped"),
        (lambda: onnx_ops.quantize_linear(np.ma.masked_array(X), ONE), TypeError, "MaskedArray"),
        (lambda: onnx_ops.quantize_linear(X, 1.0), TypeError, "y_scale is a float"),
        (lambda: onnx_ops.quantize_linear(X * F32(np.nan), ONE), ValueError, "x holds NaN"),
        (lambda: onnx_ops.quantize_linear(X * F32(np.nan), ONE, np.int16(0)), ValueError, "x holds NaN"),
        (lambda: onnx_ops.quantize_linear(X, F32(0)), ValueError, "y_scale holds 0.0"),
        (lambda: onnx_ops.quantize_linear(X, F32(-1)), ValueError, "y_scale holds -1.0"),
        (lambda: onnx_ops.quantize_linear(X, F32(np.nan)), ValueError, "y_scale holds nan"),
        (lambda: onnx_ops.quantize_linear(X, F32(np.inf)), ValueError, "y_scale holds inf"),
        *((lambda s=s: onnx_ops.quantize_linear(X, F32([1, s]), axis=0, precision="float16"), ValueError,
           f"y_scale holds {s}, which float16 does not hold") for s in ("1e-10", "1e+10")),
        (lambda: onnx_ops.quantize_linear(X, ONE, np.int8([1, 2])), ValueError, "y_zero_point has shape (2,)"),
        (lambda: onnx_ops.quantize_linear(X, ONE, F32(0)), TypeError, "y_zero_point has dtype float32"),
        (lambda: onnx_ops.quantize_linear(X, ONE, np.int8(8), output_dtype="int4"), ValueError, "y_zero_point holds 8"),
        (lambda: onnx_ops.quantize_linear(X, ONE, np.int8(0), output_dtype="uint8"), ValueError, "has dtype int8"),
        (lambda: onnx_ops.quantize_linear(X, ONE, output_dtype="float8e5m2"), ValueError, "output_dtype is"),
        (lambda: onnx_ops.quantize_linear(X, ONE, precision="float64"), ValueError, "precision is 'float64'"),
        (lambda: onnx_ops.quantize_linear(X, np.ones(2, F32)), ValueError, "y_scale has shape (2,)"),
        (lambda: onnx_ops.quantize_linear(X, np.ones(3, F32), axis=2), ValueError, "axis is 2"),
        *((lambda axis=axis: onnx_ops.quantize_linear(X, ONE, axis=axis), TypeError,
           f"axis is {axis!r}, expected an integer") for axis in ("a", [0], 1.0, None, True)),
        (lambda: onnx_ops.dequantize_linear(A, ONE, axis=1.0), TypeError, "axis is 1.0, expected an integer"),
        (lambda: onnx_ops.quantize_linear(X, X[:, :2], block_size=1), ValueError, "y_scale has shape (2, 2)"),
        (lambda: onnx_ops.quantize_linear(X, X[:, :2]), ValueError, "y_scale has shape (2, 2)"),
        (lambda: onnx_ops.quantize_linear(X, ONE, block_size=-1), ValueError, "block_size is -1"),
        (lambda: onnx_ops.quantize_linear(X, X[:, :1], block_size=2**70), ValueError,
         f"block_size is {2**70}, expected from 0 to {2**63 - 1}"),
        (lambda: onnx_ops.quantize_linear(X, ONE, output_dtype=[]), TypeError, "output_dtype is [], expected one of"),
        (lambda: onnx_ops.quantize_linear(X, ONE, precision=[]), TypeError, "precision is [], expected one of"),
        (lambda: onnx_ops.dequantize_linear(X, ONE), TypeError, "x has dtype float32"),
        (lambda: onnx_ops.dequantize_linear(A, ONE, I0), TypeError, "x_zero_point has dtype int8"),
        (lambda: onnx_ops.dequantize_linear(A.astype(np.int32), ONE, np.int32(1)), ValueError, "x_zero_point holds 1"),
        (lambda: onnx_ops.dequantize_linear(A, ONE, output_dtype="int8"), ValueError, "output_dtype is 'int8'"),
        (lambda: onnx_ops.dynamic_quantize_linear(X * F32(np.nan)), ValueError, "x holds NaN"),
        (lambda: onnx_ops.dynamic_quantize_linear(X * F32(np.inf)), ValueError, "x holds infinity"),
        (lambda: onnx_ops.dynamic_quantize_linear(np.array([3e38, -3e38], F32)), ValueError,
         "x ranges from -3e+38 to 3e+38, expected a difference that float32 holds"),
        (lambda: onnx_ops.dynamic_quantize_linear(X.astype(np.float16)), TypeError, "x has dtype float16"),
        (lambda: onnx_ops.matmul_integer(X, B), TypeError, "a has dtype float32"),
        (lambda: onnx_ops.matmul_integer(A, A), ValueError, "a has 3 columns, b has 2 rows"),
        (lambda: onnx_ops.matmul_integer(A, B, I0), TypeError, "a_zero_point has dtype int8"),
        (lambda: onnx_ops.matmul_integer(A, B, np.zeros(3, np.uint8)), ValueError, "a_zero_point has (3,)"),
        (lambda: onnx_ops.matmul_integer(A, B, None, np.zeros((3, 4), np.int8)), ValueError, "b_zero_point has shape"),
        (lambda: onnx_ops.matmul_integer(A, np.int8(1)), ValueError, "one dimension at least"),
        (lambda: onnx_ops.matmul_integer(np.ones((2, 2, 3), np.uint8), np.ones((3, 3, 4), np.int8)), ValueError,
         "do not broadcast"),
        (lambda: onnx_ops.matmul_integer(np.full((1, 70000), 255, np.uint8), np.full((70000, 1), 127, np.int8)),
         OverflowError, "outside int32"),
        (lambda: qlinear(a_scale=F32(0)), ValueError, "a_scale holds 0.0"),
        (lambda: qlinear(y_scale=np.ones(4, F32)), ValueError, "y_scale has shape (4,)"),
        (lambda: qlinear(b_scale=np.ones(4, F32)), ValueError, "b_zero_point has shape ()"),
        (lambda: qlinear(a_scale=F32(3e38), b_scale=F32(2e38)), ValueError,
         "a_scale·b_scale / y_scale is 3e+38·2e+38 / 1.0, expected a quotient that float32 holds"),
        (lambda: qlinear(y_zero_point=np.int16(0)), TypeError, "y_zero_point has dtype int16"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, error, message):
    with pytest.raises(error) as caught, np.errstate(all="raise"):
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# -- other implementations
def reference(model):
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator(model)
    return lambda inputs: evaluator.run(None, inputs)


def runtime(model):
    session = pytest.importorskip("onnxruntime").InferenceSession(model.SerializeToString(),
                                                                  providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


def run(engine, operator, arrays, outputs, opset=21, **attributes):
    """Outputs of a one-operator model."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    inputs = {f"i{n}": np.asarray(a) for n, a in enumerate(arrays) if a is not None}
    names = [f"i{n}" if a is not None else "" for n, a in enumerate(arrays)]

    def value(name, a):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)

    node = helper.make_node(operator, names, [f"o{n}" for n in range(len(outputs))], **attributes)
    graph = helper.make_graph([node], "g", [value(n, a) for n, a in inputs.items()],
                              [value(f"o{n}", y) for n, y in enumerate(outputs)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return engine(model)(inputs)


ENGINES = [reference, *([runtime] if importlib.util.find_spec("onnxruntime") else [])]
each_engine = pytest.mark.parametrize("engine", ENGINES)


@each_engine
@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize(("scale_shape", "axis", "block"), [((), 1, 0), ((6,), 1, 0), ((4,), 0, 0), ((4, 3), 1, 2),
                                                            ((2, 6), 0, 2)])
def test_quantization_equals_other_implementations(engine, kind, scale_shape, axis, block):
    rng = np.random.default_rng(7)
    scale, zero = rng.uniform(0.01, 2, scale_shape).astype(F32), draw_codes(rng, kind, scale_shape)
    x = (rng.standard_normal((4, 6)) * 100).astype(F32)
    attributes = {"axis": axis, "block_size": block}
    y = onnx_ops.quantize_linear(x, scale, zero, **attributes)
    (expected,) = run(engine, "QuantizeLinear", [x, scale, zero], [y], **attributes)
    assert y.dtype == expected.dtype
    assert (y == expected).all()
    back = onnx_ops.dequantize_linear(y, scale, zero, **attributes)
    (expected,) = run(engine, "DequantizeLinear", [y, scale, zero], [back], **attributes)
    assert back.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["int2", "uint2", "int4", "uint4"])
@pytest.mark.parametrize("float_type", ["float32", "float16", "bfloat16"])
def test_small_types_equal_the_reference_evaluator(kind, float_type):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(10)
    kind, float_type = (np.dtype(getattr(ml_dtypes, n, None) or n) for n in (kind, float_type))
    x, scale = (rng.standard_normal((4, 6)) * 5).astype(float_type), rng.uniform(0.5, 2, 6).astype(float_type)
    zero = rng.integers(0, 2, 6).astype(kind)
    y = onnx_ops.quantize_linear(x, scale, zero)
    (expected,) = run(reference, "QuantizeLinear", [x, scale, zero], [y], opset=25)
    assert (y.dtype, y.tobytes()) == (expected.dtype, expected.tobytes())
    back = onnx_ops.dequantize_linear(y, scale, zero)
    (expected,) = run(reference, "DequantizeLinear", [y, scale, zero], [back], opset=25)
    assert (back.dtype, back.tobytes()) == (expected.dtype, expected.tobytes())


@each_engine
def test_dynamic_quantization_equals_other_implementations(engine):
    rng = np.random.default_rng(8)
    for shift in (-2, 0, 2):
        x = (rng.standard_normal((5, 7)) + shift).astype(F32)
        mine = onnx_ops.dynamic_quantize_linear(x)
        for y, expected in zip(mine, run(engine, "DynamicQuantizeLinear", [x], mine), strict=True):
            assert y.dtype == expected.dtype
            assert (y == expected).all()


@each_engine
@pytest.mark.parametrize(("a_kind", "b_kind"), [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_products_equal_other_implementations(engine, a_kind, b_kind, batch):
    rng = np.random.default_rng(9)
    a, b = draw_codes(rng, a_kind, (*batch, 5, 8)), draw_codes(rng, b_kind, (*batch, 8, 6))
    za, zb = draw_codes(rng, a_kind, ()), draw_codes(rng, b_kind, () if batch else (6,))
    y = onnx_ops.matmul_integer(a, b, za, zb)
    (expected,) = run(engine, "MatMulInteger", [a, b, za, zb], [y])
    assert (y == expected).all()
    zy, scales = draw_codes(rng, a_kind, ()), [F32(s) for s in (0.0173, 0.0311, 0.29)]
    zb = draw_codes(rng, b_kind, ())
    y = onnx_ops.qlinear_matmul(a, scales[0], za, b, scales[1], zb, scales[2], zy)
    (expected,) = run(engine, "QLinearMatMul", [a, scales[0], za, b, scales[1], zb, scales[2], zy], [y])
    allowed = 0 if engine is runtime else 1  # the reference evaluator rounds after adding the zero point
    assert np.abs(y.astype(int) - expected.astype(int)).max() <= allowed
