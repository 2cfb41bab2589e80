"""Which scale every scheme gives, what its codes then are, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.stride_tricks import as_strided

import pycomp
from pycomp.kernels import dispatch, native
from pycomp.quantization import QuantizedTensor, dequantize, pack, quantize, quantize_rows
from pycomp.testing import nudged

F32 = np.float32
LEVELS = [name for name, usable in native.levels().items() if usable]
FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
arrays = hnp.arrays(F32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6, min_side=0), elements=FINITE)


@st.composite
def parts(draw, x):
    """An axis and a group size that fit x."""
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    length = x.shape[-1 if axis is None else axis]
    divisors = [g for g in range(1, max(length, 1) + 1) if length % g == 0]
    return axis, draw(st.none() | st.sampled_from(divisors))


def pieces(x, axis, group_size):
    """Index of a scale -> the index of its elements in x, by the definition of the layout."""
    if axis is None and group_size is None:
        return {(): ...}
    axis = (-1 if axis is None else axis) % x.ndim
    if group_size is None:
        return {(i,): (slice(None),) * axis + (i,) for i in range(x.shape[axis])}
    shape = list(x.shape)
    shape[axis] //= group_size
    return {i: tuple(slice(n * group_size, (n + 1) * group_size) if d == axis else n for d, n in enumerate(i))
            for i in np.ndindex(*shape)}


def formula(x, symmetric, narrow, dtype):
    """Scale and zero point of a part, from the table of the documentation, in float32."""
    low, high = x.min(initial=0), x.max(initial=0)
    smallest = np.iinfo(dtype).min
    if symmetric:
        scale = max(high, -low) / F32(127) if narrow else max(high / F32(127), -low / F32(128))
    else:
        scale = (F32(0.5) * high - F32(0.5) * low) / F32(127 if narrow else 127.5)
    scale = F32(1) if low == high else max(scale, F32(2.0**-126))
    return scale, smallest + 128 if symmetric else smallest + narrow + int(np.rint(-low / scale))


@given(arrays, st.booleans(), st.none() | st.booleans(), st.booleans(), st.sampled_from(["int8", "uint8"]), st.data())
@settings(deadline=None)
def test_every_part_has_the_scale_and_codes_of_the_table(x, symmetric, narrow_range, power_of_two, dtype, data):
    axis, group_size = data.draw(parts(x))
    q = quantize(x, axis=axis, group_size=group_size, symmetric=symmetric, narrow_range=narrow_range,
                 power_of_two=power_of_two, dtype=dtype)
    narrow = symmetric if narrow_range is None else narrow_range
    limits = np.iinfo(dtype)
    back = q.dequantize().astype(np.float64)
    assert q.data.dtype == dtype
    found = pieces(x, axis, group_size)
    assert q.scale.size == len(found)
    assert type(q.scale) is type(q.zero_point) is np.ndarray
    for index, where in found.items():
        part, scale, zero = x[where], q.scale[index], int(q.zero_point[index])
        chosen, middle = formula(part, symmetric, narrow, dtype)
        if power_of_two:
            assert np.frexp(scale)[0] == 0.5
            assert chosen <= scale < 2 * chosen
            middle = middle if symmetric else limits.min + narrow + int(np.rint(-part.min(initial=0) / scale))
        else:
            assert scale == chosen
        assert zero == middle
        codes = np.clip(np.rint(part / scale) + zero, limits.min + narrow, limits.max)
        assert (q.data[where] == codes).all()
        step = float(scale) * (0.5 if symmetric else 1) * (1 + 2.0**-14)
        assert (np.abs(back[where] - part) <= step).all()


@given(arrays, st.sampled_from(["int8", "uint8"]), st.data())
@settings(deadline=None)
def test_given_scales_of_any_layout_are_applied_part_by_part(x, dtype, data):
    axis, group_size = data.draw(parts(x))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    chosen = quantize(x, axis=axis, group_size=group_size, symmetric=False, dtype=dtype)
    scale = chosen.scale * rng.uniform(0.3, 3, chosen.scale.shape).astype(F32)
    scale = np.maximum(scale, F32(2.0**-126))
    limits = np.iinfo(dtype)
    for narrow in (False, True):
        zero = np.maximum(chosen.zero_point, limits.min + narrow)
        q = quantize(x, scale=scale, zero_point=zero, axis=axis, group_size=group_size, dtype=dtype,
                     narrow_range=narrow)
        with np.errstate(over="ignore"):
            for index, where in pieces(x, axis, group_size).items():
                codes = np.rint(x[where] / scale[index]) + q.zero_point[index]
                assert (q.data[where] == np.clip(codes, limits.min + narrow, limits.max)).all()
    again = quantize(x, scale=chosen.scale, zero_point=chosen.zero_point, axis=axis, group_size=group_size, dtype=dtype)
    assert again.data.tobytes() == chosen.data.tobytes()


def test_groups_of_a_weight_lie_as_products_expect():
    """[N, K] in groups of g along K: scales and zero points [N, K/g], axis 1."""
    x = np.random.default_rng(0).standard_normal((6, 64)).astype(F32)
    q = quantize(x, group_size=16, symmetric=False, dtype="uint8")
    assert (q.axis, q.group_size) == (1, 16)
    assert q.scale.shape == q.zero_point.shape == (6, 4)
    alone = quantize(x[2, 16:32], symmetric=False, dtype="uint8")
    assert (q.scale[2, 1], q.zero_point[2, 1]) == (alone.scale, alone.zero_point)
    assert (q.data[2, 16:32] == alone.data).all()
    with pytest.raises(ValueError, match="group_size 16"):
        pack(q)


def test_every_token_of_a_batch_has_its_scale():
    x = np.random.default_rng(1).standard_normal((2, 5, 40)).astype(F32)
    q = quantize(x, group_size=40, symmetric=False, dtype="uint8")
    codes, scale, zero = quantize_rows(x.reshape(10, 40), symmetric=False)
    assert q.data.tobytes() == codes.tobytes()
    assert q.scale.tobytes() == scale.tobytes()
    assert q.zero_point.tobytes() == zero.tobytes()


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_rows_in_groups_equal_groups_alone_and_have_the_sums_of_their_codes(m, groups, size, symmetric, seed):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((m, groups * size)) * 10.0 ** rng.integers(-3, 3, (m, 1))).astype(F32)
    codes, scale, zero, sums = quantize_rows(x, symmetric=symmetric, group_size=size, return_sums=True)
    alone = quantize_rows(x.reshape(m * groups, size), symmetric=symmetric)
    for got, expected in zip((codes, scale, zero), alone, strict=True):
        assert got.tobytes() == expected.tobytes()
    assert scale.shape == zero.shape == sums.shape == (m, groups)
    assert (sums == codes.reshape(m, groups, size).sum(axis=2, dtype=np.int64)).all()
    whole = quantize_rows(x, symmetric=symmetric, return_sums=True)
    assert (whole[3] == whole[0].sum(axis=1, dtype=np.int64)).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [16, 32, 48, 64, 128, 320])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.usefixtures("at_level")
def test_a_group_has_the_bits_of_a_row_alone_whatever_lies_beside_it(size, symmetric):
    """Groups without a scale, of zeros, of one sign, or whose scale must divide, among any number of others."""
    rng = np.random.default_rng(size)
    kernel = dispatch.quantize_rows_s8 if symmetric else dispatch.quantize_rows_u8

    def run(x, groups):
        """Codes, scales, zero points and sums, a group a row."""
        shape = (*x.shape[:-1], groups)
        whole = [np.full(shape, 7, dtype) for dtype in ((F32, np.int32) if symmetric else (F32, np.int32, np.int32))]
        made = np.full(x.shape, 7, np.int8 if symmetric else np.uint8), *whole
        kernel(x, *made)
        return [a.reshape(x.size // size, -1) for a in made]

    divides = ((np.arange(size) % 100 + 0.5) * (2 - 2.0**-23)).astype(F32)
    divides[-2:] = (2 - 2.0**-23) * (127 if symmetric else 255), 0
    odd = np.nan, -np.nan, np.inf, -np.inf
    for groups in (1, 3, 4, 8, 15, 16, 17, 20, 40):
        for some in (0, 0, 1, 3):
            x = (rng.standard_normal((groups, size)) * 10.0 ** rng.integers(-40, 30, (groups, 1))).astype(F32)
            for g in rng.integers(0, groups, some):
                kind = rng.integers(8)
                if kind < len(odd):
                    x[g, rng.integers(size)] = odd[kind]
                else:
                    x[g] = divides if kind == len(odd) else np.abs(x[g]) * (kind - 6)
            alone = [np.concatenate(parts) for parts in zip(*(run(row[None], 1) for row in x), strict=True)]
            for got, expected in zip(run(x.reshape(1, -1), groups), alone, strict=True):
                assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.usefixtures("at_level")
def test_quotients_next_to_a_half_are_those_of_a_true_division():
    """Where a reciprocal would be off by one: every half, and its neighbours, for scales of every magnitude."""
    rng = np.random.default_rng(2)
    scale = (rng.uniform(1, 2, 400) * 2.0 ** rng.integers(-126, 120, 400)).astype(F32)
    scale[:8] = np.nextafter(F32(2), F32(0)) * F32(2) ** np.arange(-4, 4).astype(F32)
    x = ((np.arange(-280, 280) + 0.5) * scale[:, None].astype(np.float64)).astype(F32)
    x = (x.view(np.int32) + rng.integers(-2, 3, x.shape, np.int32)).view(F32)
    zero = rng.integers(-128, 128, 400).astype(np.int32)
    q = quantize(x, scale=scale, zero_point=zero, axis=0)
    with np.errstate(over="ignore"):
        assert (q.data == np.clip(np.rint(x / scale[:, None]) + zero[:, None], -128, 127)).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.usefixtures("at_level")
def test_results_too_large_for_caches_are_the_same(columns):
    """Past the caches whole lines are written: from any place in one, rows of any length, no line missed."""
    m, k = 2050, 4099
    codes = (np.arange(m * k, dtype=np.uint32) * 2654435761 >> 24).astype(np.uint8).reshape(m, k)
    rng = np.random.default_rng(3)
    shape = (1, k) if columns else (m,)
    scale, zero = rng.uniform(0.1, 1, shape).astype(F32), rng.integers(0, 256, shape).astype(np.int32)
    kernel = dispatch.dequantize_columns_u8 if columns else dispatch.dequantize_u8
    expected = codes.astype(F32)
    expected -= (zero if columns else zero[:, None]).astype(F32)
    expected *= scale if columns else scale[:, None]
    y = nudged(np.full((m, k), 7, F32), 3)
    kernel(codes, scale, zero, y)
    assert (y == expected).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("places", "m", "k"), [(0, 4100, 4160), (3, 1025, 16445)])
@pytest.mark.usefixtures("at_level")
def test_codes_too_large_for_caches_are_those_of_a_few_rows(places, m, k):
    """Past the caches whole lines are written, from any place in one: of rows, and of groups of 64 and of 253."""
    x = np.resize(np.random.default_rng(4).standard_normal(100_003, F32), (m, k))
    scale, zero = np.linspace(0.01, 0.03, m, dtype=F32), np.arange(m, dtype=np.int32) % 256

    def codes_of(quantized, dtype, rows):
        """Codes of some rows at a time."""
        codes = nudged(np.full((m, k), 7, dtype), places)
        for i in range(0, m, rows):
            quantized(slice(i, i + rows), codes[i : i + rows])
        return codes

    def given(part, codes):
        dispatch.quantize_s8(x[part], scale[part], None, codes)

    def given_unsigned(part, codes):
        dispatch.quantize_u8(x[part], scale[part], zero[part], codes)

    def found(groups):
        scales, sums = np.full((m, groups), 7, F32), np.full((m, groups), 7, np.int32)
        return lambda part, codes: dispatch.quantize_rows_s8(x[part], codes, scales[part], sums[part])

    def found_unsigned(part, codes):
        scales, zeros, sums = np.full((m, 65), 7, F32), *(np.full((m, 65), 7, np.int32) for _ in range(2))
        dispatch.quantize_rows_u8(x[part], codes, scales[part], zeros[part], sums[part])

    of_columns = np.linspace(0.01, 0.03, k, dtype=F32), np.arange(k, dtype=np.int32) % 256
    multiplier, shift = np.linspace(2**30, 2**31 - 1, k).astype(np.int32), np.full(k, -7, np.int32)
    sums = np.resize(np.random.default_rng(5).integers(-(2**15), 2**15, 100_003, np.int32), (m, k))

    def columns(part, codes):
        dispatch.quantize_columns_s8(x[part], of_columns[0][None], None, codes)

    def columns_unsigned(part, codes):
        dispatch.quantize_columns_u8(x[part], of_columns[0][None], of_columns[1][None], codes)

    def requantized(part, codes):
        dispatch.requantize_s8(sums[part], of_columns[0], None, codes)

    def requantized_unsigned(part, codes):
        dispatch.requantize_fixed_u8(sums[part], multiplier, shift, of_columns[1], codes)

    signed = given, found(1), found(65), columns, requantized
    unsigned = given_unsigned, found_unsigned, columns_unsigned, requantized_unsigned
    for quantized, dtype in [*((q, np.int8) for q in signed), *((q, np.uint8) for q in unsigned)]:
        assert (codes_of(quantized, dtype, m) == codes_of(quantized, dtype, 500)).all()


@given(arrays, st.data())
@settings(deadline=None)
def test_out_receives_the_result(x, data):
    axis, group_size = data.draw(parts(x))
    codes = np.empty(x.shape, np.int8)
    q = quantize(x, axis=axis, group_size=group_size, out=codes)
    assert q.data.base is codes
    assert codes.tobytes() == quantize(x, axis=axis, group_size=group_size).data.tobytes()
    y = np.empty(x.shape, F32)
    assert dequantize(q, out=y) is y
    assert y.tobytes() == q.dequantize().tobytes()


X = np.ones((2, 6), F32)
Q = quantize(X)
SHARED = np.zeros(256, np.uint8)
VIEW = SHARED[:48].view(F32).reshape(2, 6)


def tensor(**changes):
    fields = {"data": np.zeros((2, 6), np.int8), "scale": np.ones((2, 3), F32),
              "zero_point": np.zeros((2, 3), np.int32), "axis": 1, "group_size": 2}
    return QuantizedTensor(**{**fields, **changes})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: quantize(X, group_size=4), ValueError, "x has 6 elements along axis 1, expected a multiple of"),
        (lambda: quantize(X, axis=0, group_size=3), ValueError, "x has 2 elements along axis 0"),
        (lambda: quantize(X, group_size=0), ValueError, "group_size is 0"),
        (lambda: quantize(X, group_size=2.0), TypeError, "group_size is 2.0"),
        (lambda: quantize(X, group_size=True), TypeError, "group_size is True"),
        (lambda: quantize(X, axis=-3), ValueError, "axis is -3"),
        (lambda: quantize(F32(1).reshape(()), axis=0), ValueError, "x has no dimensions"),
        (lambda: quantize(X, scale=1.0, power_of_two=True), ValueError, "power_of_two chooses a scale"),
        (lambda: quantize(X, scale=2.0**-127), ValueError, "scale is 5.877471754111438e-39, expected"),
        (lambda: quantize(X, scale=np.ones(2, F32), group_size=2), ValueError, "scale has shape (2,)"),
        (lambda: quantize(X, scale=np.ones((2, 3), F32), group_size=3), ValueError, "expected () or (2, 2)"),
        (lambda: quantize(X, scale=1, zero_point=np.zeros(3, int), axis=0), ValueError, "zero_point has shape (3,)"),
        (lambda: quantize(X * F32(np.nan), group_size=2), ValueError, "x holds NaN"),
        (lambda: quantize(X * F32(np.inf), power_of_two=True), ValueError,
         "x holds infinity, first at (0, 0), which needs a scale"),
        (lambda: quantize(X * F32(np.nan), axis=1), ValueError, "x holds NaN"),
        (lambda: quantize(X * F32(np.nan), axis=1, scale=1), ValueError, "x holds NaN"),
        (lambda: quantize(X, out=[1]), TypeError, "out is a list"),
        (lambda: quantize(X, out=np.empty((2, 6), np.uint8)), TypeError, "out has dtype"),
        (lambda: quantize(X, out=np.empty((6, 2), np.int8)), ValueError, "out has shape (6, 2)"),
        (lambda: quantize(X, out=as_strided(np.empty(9, np.int8), (2, 6), (3, 1))), ValueError, "out has strides"),
        (lambda: quantize(VIEW, out=SHARED.view(np.int8)[40:52].reshape(2, 6)), ValueError, "out overlaps an input"),
        (lambda: dequantize(Q, out=np.empty((2, 6))), TypeError, "out has dtype"),
        (lambda: dequantize(Q, out=np.empty((2, 5), F32)), ValueError, "out has shape (2, 5)"),
        (lambda: dequantize(tensor(data=SHARED.view(np.int8)[40:52].reshape(2, 6)), out=VIEW), ValueError,
         "out overlaps an input"),
        (lambda: quantize_rows(X, group_size=5), ValueError, "x has 6 elements along axis 1"),
        (lambda: tensor(group_size=4), ValueError, "data has 6 elements along axis 1"),
        (lambda: tensor(group_size=3), ValueError, "scale has shape (2, 3), expected () or (2, 2)"),
        (lambda: tensor(axis=None), ValueError, "group_size is 2, but axis is None"),
        (lambda: tensor(axis=-3), ValueError, "axis is -3"),
        (lambda: tensor(scale=np.full((2, 3), 2.0**-127, F32)), ValueError, "at least 2⁻¹²⁶"),
        (lambda: tensor(zero_point=np.full((2, 3), -129, np.int32)), ValueError, "zero_point holds -129"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_changes_nothing(call, error, message):
    before = SHARED.tobytes()
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SHARED.tobytes() == before


@pytest.mark.parametrize(("symmetric", "dtype"), [(True, "int8"), (False, "uint8")])
def test_rows_too_long_for_a_cache_have_the_scales_of_short_ones(symmetric, dtype):
    x = np.zeros((2, 70000), F32)
    x[:, :300] = np.random.default_rng(4).standard_normal((2, 300))
    long, short = (quantize(a, axis=0, symmetric=symmetric, dtype=dtype) for a in (x, x[:, :300]))
    assert long.scale.tobytes() == short.scale.tobytes()
    assert long.zero_point.tobytes() == short.zero_point.tobytes()
    assert (long.data[:, :300] == short.data).all()
    assert (long.data[:, 300:] == long.zero_point[:, None]).all()


@pytest.mark.parametrize("backend", ["native", "jit", "reference"])
def test_every_backend_quantizes_and_returns(backend):
    x = np.random.default_rng(5).standard_normal((4, 64)).astype(F32)
    pycomp.set_backend(backend)
    try:
        for axis, group_size in ((0, None), (1, None), (1, 16), (0, 2)):
            q = quantize(x, symmetric=False, dtype="uint8", axis=axis, group_size=group_size)
            step = q.scale if q.group_size is None else np.repeat(q.scale, q.group_size, axis=q.axis)
            step = step[:, None] if step.shape == (4,) else step
            assert (np.abs(q.dequantize() - x) <= step * F32(1.001)).all()
    finally:
        pycomp.set_backend(None)


def test_a_range_that_is_not_finite_leaves_out_as_it_was():
    out = np.full((2, 6), 5, np.int8)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="x holds"):
            quantize(X * F32(bad), out=out)
    assert (out == 5).all()


def test_ranges_of_columns_join_what_threads_found_in_parts_of_them():
    x = np.random.default_rng(0).standard_normal((2000, 6)).astype(F32)  # parts of some hundred rows each
    x[:, 3:] = 0
    x[3, 0], x[1990, 1], x[700, 2], x[1200, 2] = np.nan, np.nan, np.inf, -np.inf
    x[::7, 4] = -0.0
    x[1500, 5] = -1
    for count in (1, 2, 3, 7):
        low, high = np.empty((1, 6), F32), np.empty((1, 6), F32)
        with pycomp.threads(count):
            dispatch.range_columns_f32(x, low, high)
        assert np.isnan([low[0, :2], high[0, :2]]).all()
        assert low[0, 2:].tolist() == [-np.inf, 0, 0, -1]
        assert high[0, 2:].tolist() == [np.inf, 0, 0, 0]
        assert not np.signbit(np.concatenate([low[0, 3:5], high[0, 3:]])).any()
