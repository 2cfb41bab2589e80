"""Training, networks and measurement: what is exact is compared exactly."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycomp import dense, pruning, quantization
from pycomp.compare import measure, methods, network, training
from pycomp.compare.advice import pareto
from pycomp.compare.measure import Proportion, Spread, interleaved
from pycomp.compare.network import Affine


def model(*sizes, seed=0, integers=False):
    rng = np.random.default_rng(seed)
    if integers:
        return tuple(Affine(rng.integers(-3, 4, (n, k)).astype(np.float32), rng.integers(-3, 4, n).astype(np.float32))
                     for k, n in itertools.pairwise(sizes))
    return training.initial(sizes, rng)


def test_backward_is_the_chain_rule():
    """On small integers every float32 operation is exact, so integer arithmetic gives the same numbers."""
    rng = np.random.default_rng(1)
    layers = model(5, 7, 6, 4, integers=True)
    x = rng.integers(-3, 4, (9, 5)).astype(np.float32)
    by_output = rng.integers(-3, 4, (9, 4)).astype(np.float32)
    got = training.backward(layers, training.activations(layers, x), by_output)

    values = [x.astype(np.int64)]
    for i, (w, b) in enumerate(layers):
        z = values[-1] @ w.T.astype(np.int64) + b.astype(np.int64)
        values.append(np.maximum(z, 0) if i < 2 else z)
    back = by_output.astype(np.int64)
    for i in (2, 1, 0):
        np.testing.assert_array_equal(got[i].weight, back.T @ values[i])
        np.testing.assert_array_equal(got[i].bias, back.sum(0))
        back = (back @ layers[i].weight.astype(np.int64)) * (values[i] > 0)


def observed(values):
    seen = quantization.MinMax()
    seen.update(values)
    return seen


def test_training_with_rounding_sees_the_network_that_will_run():
    """Its outputs are those of the int8 network, and its gradients stop where an input is clipped."""
    layers = model(12, 20, 10)
    x = np.random.default_rng(0).random((64, 12), dtype=np.float32)
    seen = [observed(v) for v in training.activations(layers, x)[:-1]]
    fake = training.FakeQuantization(tuple(r.scale_and_zero_point(symmetric=False) for r in seen))
    values = training.activations(layers, x, fake)
    int8 = network.int8_network(layers, seen)(x)
    np.testing.assert_allclose(values[-1], int8, rtol=1e-4, atol=1e-4)
    assert (np.abs(values[-1] - training.activations(layers, x)[-1]) > 1e-3).any()

    wide = [values[0], values[1] * np.float32(2), values[2]]  # hidden values, some past the range
    clipped = wide[1] > seen[1].max + seen[1].max / 100
    assert 0 < clipped.mean() < 1
    by_output = np.ones_like(values[-1])
    got = training.backward(layers, wide, by_output, fake)
    by_hidden = dense.matmul(by_output, fake.weight(layers[1].weight)) * (wide[1] > 0) * ~clipped
    by_weight = dense.matmul(by_hidden.T.copy(), fake.inputs(0, x))
    edge = (wide[1] > seen[1].max * 0.99) & ~clipped  # neither surely inside nor outside
    sure = ~edge.any(axis=0)
    assert sure.any()
    np.testing.assert_allclose(got[0].weight[sure], by_weight[sure], rtol=1e-5, atol=1e-6)


def test_training_leaves_its_start_alone():
    start = model(4, 8, 10)
    before = [a.weight.copy() for a in start]
    x = np.random.default_rng(0).random((32, 4), dtype=np.float32)
    gradient = training.cross_entropy(np.arange(32) % 10, 10)
    trained = training.train(start, x, gradient, methods.Plan(epochs=1, rate=0.1), np.random.default_rng(0))
    assert all((a.weight == b).all() for a, b in zip(start, before, strict=True))
    assert (trained[0].weight != start[0].weight).any()


def test_network_without_units_equals_network_with_those_units_zero():
    whole = model(16, 24, 10)
    kept = pruning.channel_mask(pruning.magnitude(whole[0].weight), 0.5)
    masked = (Affine(whole[0].weight * kept[:, None], whole[0].bias * kept), whole[1])
    slim = methods.without_units(whole, 0.5)
    assert [a.weight.shape for a in slim] == [(12, 16), (10, 12)]
    x = np.random.default_rng(0).random((7, 16), dtype=np.float32)
    assert training.logits(slim, x).tobytes() == training.logits(masked, x).tobytes()



LAYERS = model(16, 24, 12, 10)


def test_sparse_network_has_the_bits_of_the_dense_one():
    thinned = [(np.arange(a.weight.size).reshape(a.weight.shape) % 3 == 0).astype(np.float32) for a in LAYERS]
    layers = [Affine(a.weight * kept, a.bias) for a, kept in zip(LAYERS, thinned, strict=True)]
    x = np.random.default_rng(0).random((7, 16), dtype=np.float32)
    dense, sparse = network.dense_network(tuple(layers)), network.sparse_network(tuple(layers))
    assert sparse(x).tobytes() == dense(x).tobytes()
    assert sparse.dense_bytes == dense.dense_bytes
    assert sparse.parameters < dense.parameters


def test_int8_network_stores_a_byte_a_weight():
    layers = model(16, 24, 10)
    int8 = network.int8_network(layers)
    assert int8.stored_bytes == 16 * 24 + 24 * 10 + 8 * (24 + 10)
    assert int8.dense_bytes == 4 * (16 * 24 + 24 * 10 + 24 + 10)
    seen = [observed(v) for v in training.activations(layers, np.ones((1, 16), np.float32))[:-1]]
    static = network.int8_network(layers, seen)
    assert static.stored_bytes == int8.stored_bytes + 2 * (4 + 4)  # scale and zero point of each layer's input


@given(st.integers(0, 2000), st.integers(1, 2000))
def test_interval_surrounds_the_proportion(hits, total):
    p = Proportion(min(hits, total), total)
    low, high = p.interval
    assert 0 <= low <= p.value <= high <= 1


def test_interval_is_wilsons():
    # Brown, Cai and DasGupta (2001): no hit in ten does not mean that there is none.
    low, high = Proportion(0, 10).interval
    assert (low, round(high, 4)) == (0, 0.2775)
    assert tuple(round(end, 4) for end in Proportion(8, 10).interval) == (0.4902, 0.9433)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_pareto_front_is_what_nothing_beats(points):
    front = [points[i] for i in pareto(points)]
    for cost, gain in points:
        beaten = any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
        assert ((cost, gain) in front) == (not beaten)


def test_timing_is_interleaved_and_relative_to_the_first(monkeypatch):
    clock, order = [0.0], []

    def call(name, seconds):
        def run():
            order.append(name)
            clock[0] += seconds

        return run

    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    base, twice = interleaved([call("a", 0.5), call("b", 0.25)], rounds=4)
    assert base.speedup == Spread(1, 1, 1)
    assert (base.seconds.median, twice.seconds.median, twice.speedup.median) == (0.5, 0.25, 2)
    assert "".join(order[-16:]) == "aabbbbaa" * 2


def test_progress_counts_every_epoch():
    one, two, three = (methods.Plan(epochs, 0.1) for epochs in (1, 2, 3))
    settings = methods.Settings(hidden=(8, 8), student=(4,), teacher_plan=two, tune_plan=one, student_plan=three,
                                sparsities=(0.5, 0.9))
    x = np.random.default_rng(0).random((40, 8), dtype=np.float32)
    y = np.arange(40) % 10
    steps = []
    study = methods.Study(settings, methods.Dataset("", "", x, y, x, y), step=lambda: steps.append(1))
    teacher = methods.train_teacher(study)
    names = [variant.name for variant in methods.variants(study, teacher)]
    assert [t for t, _ in methods.sweep(study, teacher)] == list(settings.temperatures)
    assert len(steps) == methods.epochs(settings)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("values", [[3.0], [4.0, 1.0, 2.0, 3.0, 5.0]])
def test_spread_is_median_and_quartiles(values):
    assert Spread.of(values) == (Spread(3, 3, 3) if len(values) == 1 else Spread(3, 2, 4))
