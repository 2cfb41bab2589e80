"""Results that no cache will hold are written by whole lines past the caches: the same as in pieces that are not."""

import numpy as np
import pytest

from pycomp.kernels import dispatch, native
from pycomp.testing import nudged

LEVELS = [name for name, usable in native.levels().items() if usable]
N = 2**23 + 100_003
PIECE = 1_000_000
KERNELS = {
    "f16_to_f32": (dispatch.f16_to_f32, np.float16),
    "exp_f32": (dispatch.exp_f32, np.float32),
    "log_f32": (dispatch.log_f32, np.float32),
    "relu": (lambda x, y: dispatch.activate_f32(x, 1, y), np.float32),
    "silu": (lambda x, y: dispatch.activate_f32(x, 4, y), np.float32),
}
each_level = pytest.mark.parametrize("level", LEVELS)


@each_level
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.usefixtures("at_level")
def test_elements(name):
    kernel, dtype = KERNELS[name]
    x = np.resize(np.random.default_rng(0).standard_normal(100_003).astype(dtype), N)
    whole, pieces = nudged(np.full(N, 7, np.float32), 3), np.full(N, 8, np.float32)
    kernel(x, whole)
    for i in range(0, N, PIECE):
        kernel(x[i : i + PIECE], pieces[i : i + PIECE])
    assert whole.tobytes() == pieces.tobytes()
    if dtype == np.float32:
        kernel(x, x)
        assert x.tobytes() == pieces.tobytes()


@each_level
@pytest.mark.parametrize("places", [0, 3])
@pytest.mark.usefixtures("at_level")
def test_gradients_of_fake_quantization(places):
    m, k, part = 520, 16400, 16384
    rng = np.random.default_rng(1)
    x, grad = (np.resize(rng.standard_normal(100_003).astype(np.float32), (m, k)) for _ in range(2))
    scale, zero = np.linspace(0.01, 0.03, m, dtype=np.float32), np.arange(m, dtype=np.int32) % 7

    def run(rows):
        dx, sums = nudged(np.full((m, k), 7, np.float32), places), np.full((2, m, -(-k // part)), 7.0)
        for i in range(0, m, rows):
            s = slice(i, i + rows)
            dispatch.fake_quantize_backward_f32(grad[s], x[s], scale[s], zero[s], -128, 127, dx[s], *sums[:, s])
        return dx.tobytes(), sums.tobytes()

    assert run(m) == run(100)


@each_level
@pytest.mark.parametrize("rows_first", [False, True])
@pytest.mark.usefixtures("at_level")
def test_packed_weights(rows_first):
    k, n = 2048, 16 * 257
    w = np.resize(np.random.default_rng(2).standard_normal(100_003).astype(np.float32), (k, n))
    packed = nudged(np.full((n // 16, k, 16), 7, np.float32), 0)
    dispatch.pack_f32(w if rows_first else np.asfortranarray(w), packed)
    assert (packed.transpose(1, 0, 2).reshape(k, n) == w).all()
