"""``out=`` of every public function that has it: any strides, the same bits, nothing beside the result touched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from pycomp import dense, distillation, quantization, sparse

rng = np.random.default_rng(0)
X, W = rng.standard_normal((5, 12), np.float32), rng.standard_normal((7, 12), np.float32)
A = sparse.CSRMatrix.from_dense(np.where(rng.random(W.shape) < 0.5, W, np.float32(0)))
CODES = rng.integers(-128, 128, (5, 12), np.int8)
STACK = rng.integers(-128, 128, (2, 5, 12), np.int8)
Q = quantization.quantize(X, axis=0)
ACC = rng.integers(-9999, 9999, (5, 7), np.int32)


def quantized(out):
    """The codes: in ``out``, of which the tensor has a view."""
    data = quantization.quantize(X, out=out).data
    assert out is None or data.__array_interface__ == out.__array_interface__
    return data if out is None else out


CALLS = {
    "dense.linear": lambda out: dense.linear(X, W, out=out),
    "dense.matmul": lambda out: dense.matmul(X, W.T, out=out),
    "dense.activate": lambda out: dense.activate(X, "gelu", out=out),
    "sparse.linear": lambda out: sparse.linear(X, A, out=out),
    "sparse.linear, one row": lambda out: sparse.linear(X[:1], A, out=out),
    "sparse.matmul": lambda out: sparse.matmul(A, X.T, out=out),
    "distillation.softmax": lambda out: distillation.softmax(X, out=out),
    "distillation.log_softmax, axis 0": lambda out: distillation.log_softmax(X, axis=0, out=out),
    "quantization.matmul_int8": lambda out: quantization.matmul_int8(CODES, CODES.T, out=out),
    "quantization.matmul_int8, stack": lambda out: quantization.matmul_int8(STACK, CODES[0], out=out),
    "quantization.quantize": quantized,
    "quantization.dequantize": lambda out: quantization.dequantize(Q, out=out),
    "quantization.requantize": lambda out: quantization.requantize(ACC, 0.01, out=out),
    "quantization.requantize_fixed_point": lambda out: quantization.requantize_fixed_point(ACC, 2**30, 3, out=out),
    "quantization.fake_quantize": lambda out: quantization.fake_quantize(X, 0.1, out=out),
    "quantization.Linear, dynamic": lambda out: quantization.Linear(W)(X, out=out),
    "quantization.Linear, static": lambda out: quantization.Linear(W, input_scale=0.1)(X, out=out),
    "quantization.Linear, weight-only": lambda out: quantization.Linear(W, weight_only=True)(X, out=out),
    "quantization.Linear, weight-only to float16":
        lambda out: quantization.Linear(W, weight_only=True, output_dtype="float16")(X, out=out),
    "quantization.Linear, weight-only to uint8":
        lambda out: quantization.Linear(W, weight_only=True, output_dtype="uint8", output_scale=0.5)(X, out=out),
    "quantization.Linear, to float16": lambda out: quantization.Linear(W, output_dtype="float16")(X, out=out),
    "quantization.Linear, to int8":
        lambda out: quantization.Linear(W, output_dtype="int8", output_scale=0.5)(X, out=out),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@st.composite
def layouts(draw):
    """How a matrix lies in a larger one: transposed or not, and the start and step of each axis."""
    return draw(st.booleans()), [(draw(st.integers(0, 3)), draw(st.sampled_from([-3, -2, -1, 1, 2, 3]))) for _ in "ij"]


def laid_out(shape, dtype, layout):
    """An array of that shape inside a larger one that is full of 99, and the larger one."""
    turned, axes = layout
    room = [start + abs(step) * n + 1 for (start, step), n in zip(axes, shape, strict=True)]
    around = np.full(room[::-1] if turned else room, 99, dtype)
    view = around.T if turned else around
    index = tuple(slice(start, start + abs(step) * n, abs(step)) for (start, step), n in zip(axes, shape, strict=True))
    view = view[index]
    return view[tuple(slice(None, None, -1 if step < 0 else 1) for _, step in axes)], around


@each_call
@given(layout=layouts())
def test_any_strides_receive_the_same_bits(call, layout):
    expected = call(None)
    out, around = laid_out(expected.shape, expected.dtype, layout)
    assert call(out) is out
    assert out.tobytes() == expected.tobytes()
    out[...] = 99
    assert (around == 99).all()


@each_call
def test_out_that_cannot_take_the_result_is_refused_and_not_changed(call):
    expected = call(None)
    shape, dtype = expected.shape, expected.dtype
    line = np.full(shape[1] + 8, 99, dtype)
    read_only = np.full(shape, 99, dtype)
    read_only.flags.writeable = False
    for out, error, message in (
        (np.full((*shape[:-1], shape[-1] + 1), 99, dtype), ValueError, "out has shape"),
        (np.full(shape, 99, np.float64), TypeError, "out has dtype"),
        (np.full(shape, 99, dtype.newbyteorder() if dtype.itemsize > 1 else np.float64), TypeError, "out has dtype"),
        (read_only, ValueError, "out is read-only"),
        (expected.tolist(), TypeError, "out is a list, expected a plain numpy.ndarray$"),
        (np.ma.masked_array(np.full(shape, 99, dtype)), TypeError, "a MaskedArray, expected a plain numpy.ndarray$"),
        (np.full(shape, 99, dtype).view(np.memmap), TypeError,
         r"out is a memmap, expected a plain numpy.ndarray; out.view\(np.ndarray\) is one$"),
    ):
        before = np.array(out, copy=True)
        with pytest.raises(error, match=message):
            call(out)
        assert (np.asarray(out) == before).all()
    if shape[0] > 1:
        for strides in ((0, dtype.itemsize), (dtype.itemsize, dtype.itemsize)):
            with pytest.raises(ValueError, match="put several elements in one place"):
                call(as_strided(line, shape, strides))
        assert (line == 99).all()


TO_INT8 = quantization.Linear(W, output_dtype="int8", output_scale=0.5)
WEIGHT_ONLY_TO_INT8 = quantization.Linear(W, weight_only=True, output_dtype="int8", output_scale=0.5)
SCALE_GIVEN = {
    "scale": lambda x, out: quantization.quantize(x, scale=0.1, out=out),
    "scale, columns": lambda x, out: quantization.quantize(x, axis=1, scale=0.1, narrow_range=True, out=out),
    "fake": lambda x, out: quantization.fake_quantize(x, 0.1, out=out),
    "fake, columns": lambda x, out: quantization.fake_quantize(x, 0.1, axis=1, out=out),
    "layer": lambda x, out: TO_INT8(x, out=out),
    "layer, weight-only": lambda x, out: WEIGHT_ONLY_TO_INT8(x, out=out),
}
SCALE_FOUND = {
    "tensor": lambda x, out: quantization.quantize(x, out=out),
    "rows": lambda x, out: quantization.quantize(x, axis=0, out=out),
    "rows, uint8": lambda x, out: quantization.quantize(x, axis=0, symmetric=False, dtype="uint8", out=out),
    "groups": lambda x, out: quantization.quantize(x, group_size=4, power_of_two=True, out=out),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("bad", "name"), [*((np.nan, name) for name in SCALE_GIVEN | SCALE_FOUND),
                                           *((np.inf, name) for name in SCALE_FOUND)])
def test_values_that_are_refused_leave_out_as_it_was(bad, name, order):
    x = np.ones((300, 12), np.float32, order)
    x[-1, -1] = bad
    dtype = np.float32 if "fake" in name else np.uint8 if "uint8" in name else np.int8
    out = np.full((300, 7 if "layer" in name else 12), 99, dtype)
    with pytest.raises(ValueError, match="NaN" if np.isnan(bad) else "infinity"):
        (SCALE_GIVEN | SCALE_FOUND)[name](x, out)
    assert (out == 99).all()


SQUARE = rng.standard_normal((8, 8), np.float32)


@pytest.mark.parametrize("call", [
    lambda x, out: dense.linear(x.T, SQUARE, out=out),
    lambda x, out: dense.linear(SQUARE, x.T, out=out),
    lambda x, out: dense.matmul(x.T, SQUARE, out=out),
    lambda x, out: dense.activate(x[::-1, ::2], "relu", out=out[:, ::2]),
    lambda x, out: sparse.linear(x.T, sparse.CSRMatrix.from_dense(SQUARE), out=out),
    lambda x, out: quantization.Linear(SQUARE)(x.T, out=out),
    lambda x, out: dense.linear(SQUARE, SQUARE, x[:, 1], out=out),
    lambda x, out: sparse.linear(SQUARE, sparse.CSRMatrix.from_dense(SQUARE), x[:, 1], out=out),
    lambda x, out: sparse.linear(SQUARE, sparse.CSRMatrix.from_dense(SQUARE), residual=x.T, out=out),
    lambda x, out: quantization.Linear(SQUARE)(SQUARE, residual=x.T, out=out),
    lambda x, out: quantization.fake_quantize(x.T, 1.0, out=out),
    lambda x, out: quantization.requantize(x.view(np.int32).T, 1.0, out=out.view(np.int8)[:, :8]),
], ids=["linear", "weights of linear", "matmul", "activate", "sparse", "int8", "bias", "bias of sparse",
        "residual of sparse", "residual of int8", "fake", "requantize"])
def test_an_input_that_must_be_copied_is_not_overwritten(call):
    x = SQUARE.copy()
    with pytest.raises(ValueError, match="out overlaps an input"):
        call(x, x)
    assert (x == SQUARE).all()


def test_out_may_be_columns_beside_the_input():
    beside = np.zeros((8, 16), np.float32)
    beside[:, :8] = SQUARE
    assert (dense.linear(beside[:, :8], SQUARE, out=beside[:, 8:]) == dense.linear(SQUARE, SQUARE)).all()
    assert (beside[:, :8] == SQUARE).all()
