"""exp and log on every float32: their own code is only as good as its worst input."""

import numpy as np
import pytest

import pycomp
from pycomp.kernels import dispatch, native
from pycomp.kernels.reference import distillation as reference

FUNCTIONS = ("exp_f32", "log_f32")


def in_double(name, x):
    """The reference; for a chunk on which the function is known without it, what it is."""
    if name == "exp_f32":
        if (np.abs(x) <= 2.0**-30).all():  # the next term is below 2^-60
            return 1.0 + x.astype(np.float64)
        if (np.abs(x) >= 128).all():
            return np.where(x > 0, np.inf, 0.0)
    if name == "log_f32" and (x < 0).all():
        return np.full(x.shape, np.nan)
    exact = np.empty(x.shape)
    getattr(reference, name)(x, exact)
    return exact


def in_single(name, x):
    y = np.empty_like(x)
    getattr(dispatch, name)(x, y)
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_at_most_one_ulp_on_a_sample(name, every_float32, worst_ulp):
    assert max(worst_ulp(in_single(name, x), in_double(name, x)) for x in every_float32(1021)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_at_most_one_ulp_on_every_float(name, every_float32, worst_ulp):
    assert max(worst_ulp(in_single(name, x), in_double(name, x)) for x in every_float32(1)) <= 1


@pytest.mark.parametrize("backend", ["jit", *native.levels()] if native.missing() is None else ["jit"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bits_are_equal_on_every_level_and_on_numba(name, backend, every_float32):
    if backend != "jit" and not native.levels()[backend]:
        pytest.skip(f"this CPU lacks {backend}")
    x = np.concatenate(list(every_float32(8191, start=3)))
    expected, got = np.empty_like(x), np.empty_like(x)
    dispatch.implementations(name)["native"](x, expected)
    if backend == "jit":
        dispatch.implementations(name)["jit"](x, got)
    else:
        pycomp.set_isa(backend)
        try:
            dispatch.implementations(name)["native"](x, got)
        finally:
            pycomp.set_isa(None)
    assert (got.view(np.uint32) == expected.view(np.uint32))[~np.isnan(x) & (np.isnan(got) <= np.isnan(expected))].all()
    assert (np.isnan(got) == np.isnan(expected)).all()


@pytest.mark.parametrize(("name", "x", "y"), [
    ("exp_f32", 0.0, 1.0), ("exp_f32", -0.0, 1.0), ("exp_f32", np.inf, np.inf), ("exp_f32", -np.inf, 0.0),
    ("exp_f32", 88.72283, 3.4027985e38), ("exp_f32", 88.73, np.inf),
    ("exp_f32", -103.9, 1e-45), ("exp_f32", -104.0, 0.0),
    ("log_f32", 1.0, 0.0), ("log_f32", 0.0, -np.inf), ("log_f32", -0.0, -np.inf), ("log_f32", np.inf, np.inf),
    ("log_f32", -1.0, np.nan), ("log_f32", -np.inf, np.nan), ("log_f32", 1e-45, -103.27893),
])
def test_special_values(name, x, y):
    got = in_single(name, np.array([x], np.float32))
    np.testing.assert_array_equal(got, np.array([y], np.float32))
    assert not np.signbit(got[0]) or y < 0 or y != y
