"""The sensitivity report: its figures are those of float64, and it points at the layer to leave alone."""

import numpy as np
import pytest

from pycomp import quantization
from pycomp.quantization import LayerError, Linear, SensitivityReport, sensitivity

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 64), np.float32)
EVEN = rng.standard_normal((32, 64), np.float32)
SPIKED = EVEN.copy()
SPIKED[:, 5] *= 200
SPIKED_X = X.copy()
SPIKED_X[:, 5] = 0
LAYERS = {"even": (EVEN, X), "spiked": (SPIKED, SPIKED_X)}


def test_figures_are_those_of_the_definition():
    report = sensitivity(LAYERS)
    assert [(e.layer, e.scheme) for e in report.errors] == [
        (layer, scheme) for layer in LAYERS
        for scheme in ("dynamic", "dynamic, one scale", "static", "weight-only", "weight-only, asymmetric")]
    exact = X.astype(np.float64) @ EVEN.T.astype(np.float64)
    for found, layer in zip(report.errors[::3], (Linear(EVEN), Linear(EVEN, weight_only=True)), strict=False):
        error, size = layer(X) - exact, np.sqrt((exact**2).mean())
        assert found.relative == pytest.approx(np.sqrt((error**2).mean()) / size, rel=1e-9)
        assert found.largest == pytest.approx(np.abs(error).max() / size, rel=1e-9)
        assert found.sqnr == pytest.approx(10 * np.log10((exact**2).sum() / (error**2).sum()), rel=1e-9)


def test_the_layer_with_outliers_comes_first():
    report = sensitivity(LAYERS)
    for scheme in ("dynamic", "static", "weight-only"):
        assert report.ranking(scheme) == ["spiked", "even"]
    lines = str(report).splitlines()
    assert lines[1].split()[0] == "layer"
    assert [line.split()[0] for line in lines[2:]] == ["spiked", "even"]
    assert f"{report.errors[-1].sqnr:.1f}" in lines[2]


def test_schemes_of_the_user_and_exact_layers():
    exact = {"as it is": lambda w, x: lambda inputs: inputs.astype(np.float64) @ w.T.astype(np.float64)}
    report = sensitivity({"zeros": (np.zeros_like(EVEN), X), **LAYERS}, schemes=exact)
    assert all(e.relative == 0 and e.sqnr == np.inf for e in report.errors)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_layer_that_gives_nan_comes_first(bad):
    def make(w, x):
        y = Linear(w)(x)
        return lambda inputs: np.where(w is SPIKED, np.float32(bad), y)

    report = sensitivity(LAYERS, schemes={"bad": make})
    assert report.ranking("bad") == ["spiked", "even"]
    assert (report.errors[1].relative, report.errors[1].largest, report.errors[1].sqnr) == (np.inf, np.inf, -np.inf)
    assert "-inf" in str(report).splitlines()[2]


def test_layers_need_not_have_the_same_schemes():
    report = SensitivityReport((LayerError("a", "first", 0.1, 0.1), LayerError("bb", "second", 0.01, 0.1)))
    assert str(report).splitlines()[1:] == ["layer  first  second", "a       20.0", "bb              40.0"]


def test_the_schemes_that_are_tried_by_default_are_public():
    chosen = {name: quantization.SCHEMES[name] for name in ("dynamic", "weight-only")}
    assert sensitivity(LAYERS, schemes=chosen).ranking("dynamic") == ["spiked", "even"]


def test_layers_with_sums_outside_int32_are_reported_too():
    ones = np.ones((1, 70_000), np.float32)
    assert all(e.relative < 1e-2 for e in sensitivity({"long": (ones, ones)}).errors)


def test_inputs_are_not_changed():
    before = EVEN.copy(), X.copy()
    sensitivity({"even": (EVEN, X)})
    assert (before[0] == EVEN).all()
    assert (before[1] == X).all()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: sensitivity({}), ValueError, "layers is empty"),
    (lambda: sensitivity([(EVEN, X)]), TypeError, "layers is a list, expected a mapping from names to"),
    (lambda: sensitivity(LAYERS, schemes=[]), TypeError, "schemes is a list, expected a mapping from names to"),
    (lambda: sensitivity(LAYERS, schemes={}), ValueError, "schemes is empty"),
    (lambda: sensitivity({"a": EVEN}), TypeError, r"layer 'a' is a ndarray, expected a pair \(weight, inputs\)"),
    (lambda: sensitivity({"a": (EVEN,)}), TypeError, r"layer 'a' is a tuple of length 1, expected a pair \(weight,"),
    (lambda: sensitivity({"a": (EVEN, X[:, 1:])}), ValueError, "inputs of 'a' have 63 columns, its weight has 64"),
    (lambda: sensitivity({"a": (EVEN, X[:0])}), ValueError, r"inputs \(0, 64\), expected some of each"),
    (lambda: sensitivity({"a": (EVEN * np.float32(np.nan), X)}), ValueError, "weight of 'a' holds NaN"),
    (lambda: sensitivity({"a": (EVEN, X * np.float32(np.inf))}), ValueError, "input of 'a' holds NaN or infinity"),
    (lambda: sensitivity({"a": (EVEN.astype(np.float64), X)}), TypeError,
     r"^weight of 'a' has dtype float64, expected float32; convert it with \.astype\(np\.float32\)$"),
    (lambda: sensitivity(LAYERS, schemes={"bad": lambda w, x: lambda v: v}), ValueError, "scheme 'bad' gives shape"),
    (lambda: sensitivity(LAYERS, schemes={"codes": lambda w, x: Linear(w, output_dtype="int8", output_scale=0.2)}),
     TypeError, "scheme 'codes' gives int8 for layer 'even', expected floats; codes have to be dequantized"),
    (lambda: sensitivity({3: (EVEN, X)}), TypeError, "layers has the name 3, expected a str"),
    (lambda: sensitivity(LAYERS, schemes={3: Linear}), TypeError, "schemes has the name 3, expected a str"),
    (lambda: sensitivity(LAYERS, schemes={"bad": 3}), TypeError, "scheme 'bad' is a int, expected a function"),
    (lambda: sensitivity(LAYERS, schemes={"bad": lambda w, x: w}), TypeError,
     "scheme 'bad' returned a ndarray, expected a function"),
    (lambda: sensitivity(LAYERS).ranking("none"), ValueError, "scheme is 'none', expected one of 'dynamic'"),
])
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
