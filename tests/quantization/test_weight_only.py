"""Weights of 8-bit codes with float activations: the layer against float64, and its layout."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pycomp
from pycomp import dense, quantization
from pycomp.quantization import Linear, PackedGroupedMatrix, QuantizedTensor, pack_groups, quantize

SIZES = st.integers(1, 40)
U = 2.0**-24


@st.composite
def layers(draw):
    """Quantized weights with scales of any kind that the layer takes, activations, bias, residual."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n, group, groups = draw(SIZES), draw(SIZES), draw(SIZES), draw(st.integers(1, 6))
    k = group * groups
    kind = {"tensor": {}, "output": {"axis": 0}, "group": {"axis": 1, "group_size": group}}
    dtype, symmetric = draw(st.sampled_from(["int8", "uint8"])), draw(st.booleans())
    w = rng.standard_normal((n, k), np.float32)
    q = quantize(w, dtype=dtype, symmetric=symmetric, **kind[draw(st.sampled_from(sorted(kind)))])
    bias = rng.standard_normal(n, np.float32) if draw(st.booleans()) else None
    residual = rng.standard_normal((m, n), np.float32) if draw(st.booleans()) else None
    return rng.standard_normal((m, k), np.float32), q, bias, residual


def exact_weights(q):
    """What the codes stand for, in float64."""
    scale, zero = q.scale.astype(np.float64), q.zero_point.astype(np.float64)
    if q.group_size is not None:
        scale, zero = np.repeat(scale, q.group_size, axis=1), np.repeat(zero, q.group_size, axis=1)
    elif q.axis == 0:
        scale, zero = scale[:, None], zero[:, None]
    return (q.data - zero) * scale


@given(layers(), st.sampled_from([None, "relu", "gelu", "gelu_tanh", "silu"]))
def test_result_is_within_the_bound_of_float64(layer, activation):
    x, q, bias, residual = layer
    y = Linear(q, bias, activation=activation, weight_only=True)(x, residual=residual)
    w = exact_weights(q)
    exact, magnitude = x.astype(np.float64) @ w.T, np.abs(x.astype(np.float64)) @ np.abs(w).T
    for added in (bias, residual):
        exact = exact if added is None else exact + added
        magnitude = magnitude if added is None else magnitude + np.abs(added)
    expected = dense.activate(exact.astype(np.float32), activation)
    bound = 1.13 * (x.shape[1] + 5) * U * magnitude + 4 * U * np.abs(expected) + 2 * U * np.abs(exact)
    assert (np.abs(y - expected.astype(np.float64)) <= bound).all()


@given(layers())
def test_a_row_alone_equals_the_row_in_a_batch(layer):
    x, q, bias, residual = layer
    run = Linear(q, bias, weight_only=True)
    whole = run(x, residual=residual)
    for i in range(len(x)):
        part = None if residual is None else residual[i : i + 1]
        assert (run(x[i : i + 1], residual=part) == whole[i]).all()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("m", "k", "n"), [(24, 130, 48), (65, 520, 33), (330, 1100, 70), (200, 2200, 100)])
def test_bands_of_rows_give_the_bits_of_a_few(m, k, n, symmetric):
    """On some CPUs many rows make floats of codes first, and they are cut into bands, of which L2 keeps some: all, two
    and one left over, or one by one."""
    rng = np.random.default_rng(m)
    x = rng.standard_normal((m, k), np.float32)
    q = quantize(rng.standard_normal((n, k), np.float32), symmetric=symmetric, axis=1, group_size=k // 10)
    run = Linear(q, weight_only=True)
    few = np.concatenate([run(x[i : i + 5]) for i in range(0, m, 5)])
    for threads in (1, 3):
        with pycomp.threads(threads):
            assert (run(x) == few).all()


@given(layers())
def test_the_layout_gives_the_codes_again(layer):
    _, q, _, _ = layer
    packed = pack_groups(q)
    signed = q.data if q.data.dtype == np.int8 else (q.data.astype(np.int16) - 128).astype(np.int8)
    assert (packed.unpack() == signed).all()
    assert packed.shape == q.shape
    assert packed.group_size == (q.group_size or q.shape[1])
    assert packed.data.ctypes.data % 64 == 0


def test_one_scale_for_the_tensor_gives_the_bits_of_a_scaled_product():
    """With scale 1, codes are whole numbers and the chain is that of the dense product."""
    rng = np.random.default_rng(3)
    codes, x = rng.integers(-127, 128, (50, 70), np.int8), rng.standard_normal((9, 70), np.float32)
    q = QuantizedTensor(codes, np.ones((), np.float32), np.zeros((), np.int32))
    assert (Linear(q, weight_only=True)(x) == dense.linear(x, codes.astype(np.float32))).all()


def test_smaller_groups_lose_less_and_weights_alone_lose_less_than_activations_too():
    rng = np.random.default_rng(4)
    w, x = rng.standard_normal((64, 512), np.float32), rng.standard_normal((32, 512), np.float32)
    w *= np.exp(rng.standard_normal((1, 512)).astype(np.float32))  # inputs of unlike size, as networks have
    exact = x.astype(np.float64) @ w.T.astype(np.float64)

    def error(layer):
        return np.linalg.norm(layer(x) - exact) / np.linalg.norm(exact)

    groups, whole = error(Linear(w, weight_only=True, group_size=32)), error(Linear(w, weight_only=True))
    assert groups < whole < error(Linear(w))


def test_the_size_is_a_quarter_of_the_floats_and_a_scale_a_group():
    w = np.ones((1024, 1024), np.float32)
    packed = Linear(w, weight_only=True, group_size=128).weight
    assert isinstance(packed, PackedGroupedMatrix)
    assert packed.nbytes == w.nbytes // 4 + 4 * 1024 * 8


def test_activations_that_are_not_finite_reach_their_own_row_only():
    w, x = np.ones((3, 8), np.float32), np.ones((3, 8), np.float32)
    x[1, 2], x[2, 3] = np.nan, np.inf
    y = Linear(w, weight_only=True, group_size=4)(x)
    assert np.isfinite(y[0]).all()
    assert np.isnan(y[1]).all()
    assert (y[2] == np.inf).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("kind", [{}, {"axis": 0}, {"group_size": 4}])
def test_no_inputs_give_the_activated_bias_whatever_the_scales(dtype, kind):
    q = quantize(np.ones((3, 0), np.float32), dtype=dtype, **kind)
    layer = Linear(q, np.array([1, -1, 2], np.float32), activation="relu", weight_only=True)
    assert layer(np.ones((2, 0), np.float32)).tolist() == [[1, 0, 2]] * 2
    assert layer.weight.unpack().shape == layer.weight.shape == (3, 0)


W = np.ones((3, 8), np.float32)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: Linear(W, group_size=4), ValueError, "only weight_only=True can multiply"),
    (lambda: Linear(quantize(W, axis=1, group_size=4)), ValueError, "only weight_only=True can multiply"),
    (lambda: Linear(W, weight_only=True, group_size=3), ValueError,
     "weight has 8 elements along axis 1, expected a multiple of group_size, which is 3"),
    (lambda: Linear(quantize(W, axis=0), weight_only=True, group_size=4), ValueError, "quantized already"),
    (lambda: Linear(pack_groups(quantize(W)), weight_only=True, group_size=4), ValueError, "quantized already"),
    (lambda: Linear(quantization.pack(quantize(W)), weight_only=True), ValueError, "laid out for 8-bit activations"),
    (lambda: Linear(W, weight_only=True, input_scale=0.1), ValueError, "weight_only takes no input_scale"),
    (lambda: Linear(W, weight_only=True, output_dtype="int8"), ValueError, "needs output_scale"),
    (lambda: pack_groups(W), TypeError, "q is a ndarray, expected a QuantizedTensor"),
    (lambda: pack_groups(quantize(W, axis=1)), ValueError, "axis 1 and group_size None"),
    (lambda: pack_groups(quantize(np.ones((4, 4), np.float32), axis=0, group_size=2)), ValueError, "axis 0"),
    (lambda: Linear(np.full((3, 8), np.nan, np.float32), weight_only=True), ValueError, "weight holds NaN or infinity"),
    (lambda: Linear(W, weight_only=True)(np.ones((2, 7), np.float32)), ValueError, "x has 7 columns, weight has 8"),
    (lambda: PackedGroupedMatrix(np.zeros((1, 8, 16), np.int8), np.ones((1, 3, 16), np.float32), None, 3),
     ValueError, "scale has 3 groups, expected a divisor of 8"),
    (lambda: PackedGroupedMatrix(np.zeros((1, 8, 16), np.int8), np.zeros((1, 2, 16), np.float32), None, 3),
     ValueError, "scale holds 0"),
    *((lambda zero=zero: PackedGroupedMatrix(np.zeros((1, 8, 16), np.int8), np.ones((1, 2, 16), np.float32), zero, 3),
       TypeError, f"zero_point is a {type(zero).__name__}, expected an array of int8") for zero in (3, [3], "3")),
    (lambda: PackedGroupedMatrix(np.zeros((2, 8, 16), np.int8), np.ones((2, 2, 16), np.float32), None, 3),
     ValueError, r"data has shape \(2, 8, 16\), expected \(1, K, 16\)"),
])
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
