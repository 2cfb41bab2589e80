"""Which layer loses how much by which scheme, so that one sees which to leave alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._validate import BATCH_NDIM, FLOAT32, as_array, shown

from .linear import Linear
from .observer import MinMax, finite
from .tensor import quantize

Scheme = Callable[[NDArray[np.float32], NDArray[np.float32]], Callable[[NDArray[np.float32]], NDArray[Any]]]
"""(weight [N, K], inputs [..., K]) -> a layer without bias, called with inputs."""


def _static(w: NDArray[np.float32], x: NDArray[np.float32]) -> Linear:
    seen = MinMax()
    seen.update(x)
    scale, zero_point = seen.scale_and_zero_point(symmetric=False)
    return Linear(w, input_scale=scale, input_zero_point=zero_point)


SCHEMES: dict[str, Scheme] = {
    "dynamic": lambda w, x: Linear(w),
    "dynamic, one scale": lambda w, x: Linear(quantize(w)),
    "static": _static,
    "weight-only": lambda w, x: Linear(w, weight_only=True),
    "weight-only, asymmetric": lambda w, x: Linear(quantize(w, axis=0, symmetric=False), weight_only=True),
}
"""What :func:`sensitivity` tries by default: W8A8, a scale an output unless the name says otherwise, and W8A32."""


@dataclass(frozen=True)
class LayerError:
    """What one layer loses by one scheme, against float64.

    Attributes
    ----------
    layer, scheme : str
    relative : float
        Root mean square of the error over that of the output.
    largest : float
        Largest error over the root mean square of the output.

    Examples
    --------
    >>> LayerError("first", "dynamic", relative=0.01, largest=0.05).sqnr
    40.0
    """

    layer: str
    scheme: str
    relative: float
    largest: float

    @property
    def sqnr(self) -> float:
        """Signal to quantization noise in dB: ``-20·log10(relative)``."""
        return float("inf") if self.relative == 0 else -20 * float(np.log10(self.relative))


@dataclass(frozen=True)
class SensitivityReport:
    """What :func:`sensitivity` found; ``str(report)`` is a table, the most sensitive layer first.

    Attributes
    ----------
    errors : tuple of LayerError
        One for each layer and scheme, in the order given.

    Examples
    --------
    >>> errors = LayerError("first", "dynamic", 0.01, 0.05), LayerError("last", "dynamic", 0.1, 0.5)
    >>> print(SensitivityReport(errors))
    signal to quantization noise in dB, the most sensitive layer first
    layer  dynamic
    last      20.0
    first     40.0
    """

    errors: tuple[LayerError, ...]

    def ranking(self, scheme: str) -> list[str]:
        """Layers from the most sensitive to the least: by ``relative``, the largest first.

        Parameters
        ----------
        scheme : str

        Returns
        -------
        list of str

        Raises
        ------
        ValueError
            If the report does not have the scheme.

        Examples
        --------
        >>> errors = LayerError("first", "dynamic", 0.01, 0.05), LayerError("last", "dynamic", 0.1, 0.5)
        >>> SensitivityReport(errors).ranking("dynamic")
        ['last', 'first']
        """
        found = sorted((e for e in self.errors if e.scheme == scheme), key=lambda e: -e.relative)
        if not found:
            known = ", ".join(map(repr, dict.fromkeys(e.scheme for e in self.errors)))
            raise ValueError(f"scheme is {scheme!r}, expected one of {known}")
        return [e.layer for e in found]

    def __str__(self) -> str:
        schemes = list(dict.fromkeys(e.scheme for e in self.errors))
        table = {(e.layer, e.scheme): e.sqnr for e in self.errors}
        layers = sorted(dict.fromkeys(e.layer for e in self.errors),
                        key=lambda layer: min(table[layer, s] for s in schemes if (layer, s) in table))
        width = max(map(len, ["layer", *layers]))
        lines = ["signal to quantization noise in dB, the most sensitive layer first",
                 "  ".join([f"{'layer':<{width}}", *schemes])]
        for layer in layers:
            cells = [f"{table[layer, s]:.1f}" if (layer, s) in table else "" for s in schemes]
            below = [f"{cell:>{len(s)}}" for cell, s in zip(cells, schemes, strict=True)]
            lines.append("  ".join([f"{layer:<{width}}", *below]))
        return "\n".join(line.rstrip() for line in lines)


def sensitivity(layers: Mapping[str, Any], *, schemes: Mapping[str, Scheme] | None = None) -> SensitivityReport:
    """Quantize each layer alone by each scheme, and compare its output with float64.

    Parameters
    ----------
    layers : mapping from names to (weight, inputs)
        Arrays of float32 of shapes (N, K) and (..., K): the inputs are what the layer sees in the float network, for a
        few dozen examples or more.
    schemes : mapping from names to functions, optional
        A function takes weight and inputs and returns the quantized layer, a function of the inputs that gives floats.
        By default :data:`SCHEMES`: W8A8 dynamic (one scale an output, or one for all), W8A8 static, and weights alone.

    Returns
    -------
    SensitivityReport

    Raises
    ------
    TypeError
        If ``layers`` or ``schemes`` is not a mapping from str, an array not float32, an entry not a pair, a scheme, or
        what it returns, not a function, or what that gives not floats.
    ValueError
        If there are no layers, schemes or inputs, shapes do not fit, or a value is NaN or infinite.

    Notes
    -----
    The reference is ``inputs @ weight.T`` in float64; a bias would cancel and is left out. An output that is all zeros
    has relative error 0 if it is met exactly, else infinite. Errors of a layer that gives NaN or infinity are infinite.
    Workspace: two arrays of the shape of a layer's output in float64.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x, w = rng.standard_normal((64, 32), np.float32), rng.standard_normal((16, 32), np.float32)
    >>> outliers = w.copy()
    >>> outliers[:, 0] *= 100
    >>> report = sensitivity({"even": (w, x), "outliers": (outliers, x * (np.arange(32) > 0).astype(np.float32))})
    >>> report.ranking("dynamic")
    ['outliers', 'even']
    """
    if not isinstance(layers, Mapping):
        raise TypeError(f"layers is a {type(layers).__name__}, expected a mapping from names to (weight, inputs)")
    if not layers:
        raise ValueError("layers is empty, expected at least one")
    tried = SCHEMES if schemes is None else schemes
    if not isinstance(tried, Mapping):
        raise TypeError(f"schemes is a {type(tried).__name__}, expected a mapping from names to functions")
    if not tried:
        raise ValueError("schemes is empty, expected at least one")
    for what, names in (("layers", layers), ("schemes", tried)):
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"{what} has the name {shown(name)}, expected a str")
    errors = []
    for name, entry in layers.items():
        weight, inputs = _checked(name, entry)
        exact = inputs.astype(np.float64) @ weight.T.astype(np.float64)
        for scheme, make in tried.items():
            layer = _function(make, f"scheme {scheme!r} is")(weight, inputs)
            y = np.asarray(_function(layer, f"scheme {scheme!r} returned")(inputs))
            if y.dtype.kind != "f" and y.dtype.name != "bfloat16":
                raise TypeError(f"scheme {scheme!r} gives {y.dtype.name} for layer {name!r}, expected floats; "
                                "codes have to be dequantized")
            y = y.astype(np.float64)
            if y.shape != exact.shape:
                raise ValueError(f"scheme {scheme!r} gives shape {y.shape} for layer {name!r}, expected {exact.shape}")
            errors.append(LayerError(name, scheme, *_errors(y, exact)))
    return SensitivityReport(tuple(errors))


def _checked(name: str, entry: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        length = f" of length {len(entry)}" if isinstance(entry, (tuple, list)) else ""
        raise TypeError(f"layer {name!r} is a {type(entry).__name__}{length}, expected a pair (weight, inputs)")
    weight = as_array(entry[0], f"weight of {name!r}", FLOAT32, 2)
    inputs = as_array(entry[1], f"inputs of {name!r}", FLOAT32, BATCH_NDIM)
    if inputs.shape[-1] != weight.shape[1]:
        raise ValueError(f"inputs of {name!r} have {inputs.shape[-1]} columns, its weight has {weight.shape[1]}")
    if not inputs.size or not weight.size:
        raise ValueError(f"layer {name!r} has weight {weight.shape} and inputs {inputs.shape}, expected some of each")
    finite(weight, None, f"weight of {name!r}")
    finite(inputs, None, f"input of {name!r}")
    return weight, inputs


def _function(f: Any, what: str) -> Callable[..., Any]:
    if not callable(f):
        raise TypeError(f"{what} a {type(f).__name__}, expected a function")
    return f  # type: ignore[no-any-return]


def _errors(y: NDArray[np.float64], exact: NDArray[np.float64]) -> tuple[float, float]:
    """Root mean square and largest error, both over the root mean square of the exact output."""
    error, size = np.abs(y - exact), float(np.sqrt(np.mean(exact**2)))
    if size == 0 or np.isnan(error).any():
        return (0.0, 0.0) if not error.any() else (float("inf"), float("inf"))
    return float(np.sqrt(np.mean(error**2))) / size, float(error.max()) / size
