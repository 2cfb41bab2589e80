"""Batches in any shape: the bits of their rows, one after the other, and errors that name the shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycomp import dense, quantization, sparse

rng = np.random.default_rng(0)
K, N = 12, 7
W, BIAS = rng.standard_normal((N, K), np.float32), rng.standard_normal(N, np.float32)
A = sparse.CSRMatrix.from_dense(np.where(rng.random(W.shape) < 0.5, W, np.float32(0)))
CODED = sparse.CSRMatrix.from_dense(rng.integers(-128, 128, W.shape, np.int8))
LAYERS = {
    "dynamic": quantization.Linear(W, BIAS, activation="relu"),
    "static": quantization.Linear(W, BIAS, input_scale=0.1),
    "weight-only": quantization.Linear(W, BIAS, weight_only=True, group_size=4),
    "to float16": quantization.Linear(W, BIAS, output_dtype="float16"),
    "weight-only, to int8": quantization.Linear(W, BIAS, weight_only=True, output_dtype="int8", output_scale=0.5),
}


def codes(x):
    return (20 * x).astype(np.int8)


PRODUCTS = {
    "dense.linear": lambda x, residual, out: dense.linear(x, W, BIAS, out=out),
    **{f"sparse.linear, {form}": lambda x, residual, out, form=form: sparse.linear(
        x, A, BIAS, residual=residual, format=form, out=out) for form in ("csr", "tiles", "slices", "bitmap", "dense")},
    "sparse.matmul_int8": lambda x, residual, out: sparse.matmul_int8(codes(x), CODED, out=out),
    "sparse.linear, blocks": lambda x, residual, out: sparse.linear(
        x, sparse.BSRMatrix.from_dense(W, (7, 4)), residual=residual, out=out),
    "sparse.linear, float64": lambda x, residual, out: sparse.linear(
        x.astype(np.float64), A.astype(np.float64), residual=residual.astype(np.float64), out=out),
    **{f"Linear, {name}": lambda x, residual, out, layer=layer: layer(x, residual=residual, out=out)
       for name, layer in LAYERS.items()},
}
SHAPES = st.lists(st.integers(0, 4), max_size=4)
each_product = pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)


def strided(shape, order):
    """Random floats whose axes lie in memory in that order."""
    return rng.standard_normal([shape[i] for i in order], np.float32).transpose(np.argsort(order))


@each_product
@given(data=st.data(), batch=SHAPES)
def test_products_take_batches_in_any_shape(product, data, batch):
    orders = st.permutations(range(len(batch) + 1))
    x, residual = (strided((*batch, n), data.draw(orders)) for n in (K, N))
    y = product(x, residual, None)
    rows = product(x.reshape(-1, K), residual.reshape(-1, N), None) if y.size else y.reshape(-1, N)
    assert y.shape == (*batch, N)
    assert y.tobytes() == rows.tobytes()
    out = strided(y.shape, data.draw(orders)).astype(y.dtype, order="K")
    assert product(x, residual, out) is out
    assert out.tobytes() == y.tobytes()


@given(SHAPES)
def test_gradients_of_a_batch_in_any_shape_are_those_of_its_rows(batch):
    x, grad = (rng.standard_normal((*batch, n), np.float32) for n in (K, N))
    m = int(np.prod(batch))
    dx, da, dbias = sparse.linear_backward(grad, x, A)
    by_rows = sparse.linear_backward(grad.reshape(m, N), x.reshape(m, K), A)
    assert dx.shape == x.shape
    assert [a.tobytes() for a in (dx, da.data, dbias)] == [
        a.tobytes() for a in (by_rows[0], by_rows[1].data, by_rows[2])]


@given(SHAPES, st.booleans(), st.sampled_from([None, 4]))
def test_rows_of_a_batch_in_any_shape_are_quantized_alike(batch, symmetric, group_size):
    x = rng.standard_normal((*batch, K), np.float32)
    made = quantization.quantize_rows(x, symmetric=symmetric, group_size=group_size, return_sums=True)
    rows = quantization.quantize_rows(
        x.reshape(int(np.prod(batch)), K), symmetric=symmetric, group_size=group_size, return_sums=True)
    assert made[0].shape == x.shape
    for a, of_rows in zip(made, rows, strict=True):
        assert a.shape == (*batch, *of_rows.shape[1:])
        assert a.tobytes() == of_rows.tobytes()


@given(SHAPES, st.sampled_from(["tensor", "first axis", "row"]), st.sampled_from(["int8", "uint8"]), st.booleans())
def test_layers_take_codes_in_any_shape(batch, scales, dtype, symmetric):
    x = rng.standard_normal((*batch, K), np.float32)
    first = scales == "first axis" and len(batch) > 0
    layout = {"axis": 0} if first else {"group_size": K} if scales == "row" else {}
    q = quantization.quantize(x, dtype=dtype, symmetric=symmetric, **layout)
    shape = [*batch[:1], *[1] * (len(batch) - 1)] if first else batch if scales == "row" else ()
    scale, zero = (np.broadcast_to(a.reshape(shape), batch).reshape(-1) for a in (q.scale, q.zero_point))
    rows = quantization.QuantizedTensor(q.data.reshape(len(scale), K), scale, zero, 0)
    y = LAYERS["dynamic"](q)
    assert y.shape == (*batch, N)
    assert y.tobytes() == LAYERS["dynamic"](rows).tobytes()


@given(st.lists(SHAPES, max_size=3))
def test_the_mean_of_inputs_is_that_of_their_rows(batches):
    whole, by_rows = quantization.InputMean(), quantization.InputMean()
    for batch in batches:
        x = rng.standard_normal((*batch, K), np.float32)
        whole.update(x)
        by_rows.update(x.reshape(int(np.prod(batch)), K))
    assert whole.count == by_rows.count
    if whole.count:
        assert (whole.mean == by_rows.mean).all()


def test_the_sensitivity_of_a_layer_does_not_depend_on_the_shape_of_its_inputs():
    x = rng.standard_normal((5, 3, K), np.float32)
    assert str(quantization.sensitivity({"a": (W, x)})) == str(quantization.sensitivity({"a": (W, x.reshape(15, K))}))


X, SCALAR = np.ones((2, 3, K), np.float32), np.ones((), np.float32)


@each_product
@pytest.mark.parametrize(("operands", "message"), [
    ({"x": SCALAR}, r"x has 0 dimensions \(\), expected at least 1"),
    ({"x": X[..., :5]}, "x has 5 columns, (w|a|weight) has 12"),
    ({"out": (6, N)}, r"out has shape \(6, 7\), expected \(2, 3, 7\)"),
    ({"residual": np.ones((6, N), np.float32)}, r"residual has 2 dimensions \(6, 7\), expected 3"),
    ({"residual": np.ones((3, 2, N), np.float32)}, r"residual has shape \(3, 2, 7\), expected \(2, 3, 7\)"),
])
def test_shapes_that_do_not_fit_are_refused(product, operands, message):
    if "residual" in operands and product in (PRODUCTS["dense.linear"], PRODUCTS["sparse.matmul_int8"]):
        pytest.skip("takes no residual")
    given = {"x": X, "residual": np.ones((2, 3, N), np.float32), "out": None} | operands
    if given["out"] is not None:
        given["out"] = np.empty(given["out"], product(X, given["residual"], None).dtype)
    with pytest.raises(ValueError, match=message):
        product(**given)


@pytest.mark.parametrize("call", [
    lambda: quantization.quantize_rows(SCALAR),
    lambda: quantization.InputMean().update(SCALAR),
    lambda: quantization.sensitivity({"a": (W, SCALAR)}),
    lambda: LAYERS["dynamic"](quantization.QuantizedTensor(np.ones((), np.int8), 1.0, 0)),
])
def test_no_dimensions_are_refused(call):
    with pytest.raises(ValueError, match=r"has 0 dimensions \(\), expected at least 1"):
        call()


def test_rows_apart_are_read_where_they_lie_and_out_may_not_overlap_them():
    buffer = rng.standard_normal((3, 4, K + 5), np.float32)
    x = buffer[..., :K]
    assert dense.linear(x, W).tobytes() == dense.linear(x.copy(), W).tobytes()
    with pytest.raises(ValueError, match="out overlaps an input"):
        dense.linear(x, W, out=buffer[..., 3 : 3 + N])
