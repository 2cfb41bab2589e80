"""The activations on every float32, and fused with products."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import pycomp
from pycomp import dense, quantization, sparse
from pycomp.kernels import dispatch, native
from pycomp.kernels.reference import activations as reference

special = pytest.importorskip("scipy.special")
SMOOTH = {"gelu": 2, "gelu_tanh": 3, "silu": 4}


def in_double(name, x):
    """The reference; for a chunk that lies where the activation is a straight line, or a parabola, that of it."""
    size = np.abs(x)
    if (size >= 128).all():  # what is lacking is below e^-128 of x
        return np.where(x > 0, x, np.float32(-0.0)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        x = x.astype(np.float64)
        if (size <= 2.0**-30).all():  # the next term is below 2^-60 of x
            return 0.5 * x + (0.25 if name == "silu" else 1 / np.sqrt(2 * np.pi)) * x * x
        return reference.exact(x, SMOOTH[name])


@pytest.fixture
def erfc_in_c(monkeypatch):
    monkeypatch.setattr(reference, "_erfc", special.erfc)  # which is math.erfc, an element at a time


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.usefixtures("erfc_in_c")
def test_error_is_at_most_one_ulp_on_a_sample(name, every_float32, worst_ulp):
    assert 0.5 < max(worst_ulp(dense.activate(x, name), in_double(name, x)) for x in every_float32(1021)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.usefixtures("erfc_in_c")
def test_error_is_at_most_one_ulp_on_every_float(name, every_float32, worst_ulp):
    assert max(worst_ulp(dense.activate(x, name), in_double(name, x)) for x in every_float32(1)) <= 1


@pytest.mark.parametrize("backend", ["chain", "jit", *native.levels()])
@pytest.mark.parametrize("name", ["relu", *SMOOTH])
def test_bits_are_equal_on_every_level_on_numba_and_in_the_chain(name, backend, every_float32):
    x = np.concatenate(list(every_float32(8191, start=3)))
    expected, got, code = dense.activate(x, name), np.empty_like(x), {"relu": 1, **SMOOTH}[name]
    if backend == "chain":
        reference.activate_f32_chain(x, code, got)
    elif backend == "jit":
        pytest.importorskip("numba")
        dispatch.implementations("activate_f32")["jit"](x, code, got)
    else:
        if not native.levels()[backend]:
            pytest.skip(f"this CPU lacks {backend}")
        pycomp.set_isa(backend)
        try:
            dispatch.implementations("activate_f32")["native"](x, code, got)
        finally:
            pycomp.set_isa(None)
    assert (np.isnan(got) == np.isnan(x)).all()
    assert (got.view(np.uint32) == expected.view(np.uint32))[~np.isnan(x)].all()


@pytest.mark.parametrize("name", SMOOTH)
def test_special_values(name):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 3e38, -3e38, 1e-45], np.float32)
    y = dense.activate(x, name)
    np.testing.assert_array_equal(y, np.array([np.inf, -0.0, np.nan, 0.0, -0.0, 3e38, -0.0, 0.0], np.float32))
    assert np.signbit(y).tolist() == [False, True, bool(np.signbit(y[2])), False, True, False, True, False]


@given(x=hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=40), elements=st.floats(-20, 20, width=32)),
       name=st.sampled_from(["identity", "relu", *SMOOTH]))
def test_fused_with_a_product_has_the_bits_of_the_activation_alone(x, name):
    x = x.reshape(-1, x.shape[-1])
    rng = np.random.default_rng(x.size)
    w, bias = rng.standard_normal((19, x.shape[1]), np.float32), rng.standard_normal(19, np.float32)
    a = sparse.CSRMatrix.from_dense(np.where(rng.random(w.shape) < 0.5, w, np.float32(0)))
    for product in (lambda act: dense.linear(x, w, bias, activation=act),
                    lambda act: sparse.linear(x, a, bias, activation=act),
                    lambda act: sparse.linear(x[:1], a, bias, activation=act),
                    lambda act: quantization.Linear(w, bias, activation=act)(x)):
        np.testing.assert_array_equal(product(name), dense.activate(product(None), name))


def test_out_and_any_strides():
    x = np.arange(24, dtype=np.float32).reshape(4, 6) - 12
    out = np.empty((3, 4), np.float32)
    assert dense.activate(x[:, ::2].T, "silu", out=out) is out
    np.testing.assert_array_equal(out, dense.activate(x, "silu")[:, ::2].T)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda x: dense.activate(x, "swish"), ValueError, "activation is 'swish', expected one of None, 'identity'"),
    (lambda x: dense.activate(x.astype(np.float64), "relu"), TypeError, "x has dtype float64, expected float32"),
    (lambda x: dense.activate(x, "relu", out=x), ValueError, "out overlaps an input"),
    (lambda x: dense.activate(x, "relu", out=np.empty(2, np.float32)), ValueError, "out has shape"),
])
def test_bad_input_is_refused(call, error, message):
    x = np.ones(3, np.float32)
    with pytest.raises(error, match=message):
        call(x)
    assert (x == 1).all()
