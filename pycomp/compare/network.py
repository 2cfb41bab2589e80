"""What runs: networks of layers, each on one of pycomp's kernels.

A :class:`Affine` is what training changes; a layer is what one becomes to be stored and run.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pycomp import dense, quantization, sparse

Floats = NDArray[np.float32]


class Affine(NamedTuple):
    """Weights [out, in] and bias [out] of one layer."""

    weight: Floats
    bias: Floats


Model = tuple[Affine, ...]


class Layer(Protocol):
    def __call__(self, x: Floats) -> Floats: ...

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        """The arrays that a file of this layer would hold."""

    @property
    def parameters(self) -> int:
        """Weights and biases that are kept."""

    @property
    def size(self) -> int:
        """Weights and biases, zeros included."""


@dataclass(frozen=True, eq=False)
class DenseLayer:
    affine: Affine
    packed: dense.PackedMatrix
    activation: str | None

    def __call__(self, x: Floats) -> Floats:
        return dense.linear(x, self.packed, self.affine.bias, activation=self.activation)

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        return tuple(self.affine)

    @property
    def parameters(self) -> int:
        return self.size

    @property
    def size(self) -> int:
        return sum(a.size for a in self.affine)


@dataclass(frozen=True, eq=False)
class SparseLayer:
    weight: sparse.CSRMatrix | sparse.NMMatrix
    bias: Floats
    activation: str | None

    def __call__(self, x: Floats) -> Floats:
        packed = self.weight._packed_format(len(x)) if isinstance(self.weight, sparse.CSRMatrix) else None
        return sparse.linear(x, self.weight, self.bias, activation=self.activation, format=packed)

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        if isinstance(self.weight, sparse.NMMatrix):
            return self.weight.data, self.weight.places, self.bias
        return self.weight.data, self.weight.indices, self.weight.indptr, self.bias

    @property
    def parameters(self) -> int:
        return self.weight.nnz + self.bias.size

    @property
    def size(self) -> int:
        return math.prod(self.weight.shape) + self.bias.size


@dataclass(frozen=True, eq=False)
class Int8Layer:
    codes: quantization.QuantizedTensor
    bias: Floats
    linear: quantization.Linear
    input_grid: tuple[NDArray[Any], ...] = ()
    """Scale and zero point of static inputs."""

    def __call__(self, x: Floats) -> Floats:
        return self.linear(x)

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        return self.codes.data, self.codes.scale, self.bias, *self.input_grid

    @property
    def parameters(self) -> int:
        return int(np.count_nonzero(self.codes.data)) + self.bias.size

    @property
    def size(self) -> int:
        return self.codes.data.size + self.bias.size


@dataclass(frozen=True, eq=False)
class Network:
    """Layers run one after the other; the last gives the logits."""

    layers: tuple[Layer, ...]

    def __call__(self, x: Floats) -> Floats:
        for layer in self.layers:
            x = layer(x)
        return x

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def dense_bytes(self) -> int:
        """What the same layers take as dense float32."""
        return 4 * sum(layer.size for layer in self.layers)

    @property
    def stored_bytes(self) -> int:
        return sum(a.nbytes for layer in self.layers for a in layer.stored)

    @property
    def zlib_bytes(self) -> int:
        """The stored bytes after zlib at its highest level."""
        content = b"".join(a.tobytes() for layer in self.layers for a in layer.stored)
        return len(zlib.compress(content, 9))


def activation_of(index: int, depth: int) -> str | None:
    return "relu" if index + 1 < depth else None


def _network(model: Model, layer: Callable[[Affine, int, str | None], Layer]) -> Network:
    return Network(tuple(layer(affine, i, activation_of(i, len(model))) for i, affine in enumerate(model)))


def dense_network(model: Model) -> Network:
    return _network(model, lambda affine, i, activation: DenseLayer(affine, dense.pack(affine.weight), activation))


def sparse_network(model: Model, pattern: tuple[int, int] | None = None) -> Network:
    """Hidden layers sparse, in CSR or as N:M; the last, which is not pruned, dense."""

    def layer(affine: Affine, index: int, activation: str | None) -> Layer:
        if index + 1 == len(model):
            return DenseLayer(affine, dense.pack(affine.weight), activation)
        weight = (sparse.NMMatrix.from_dense(affine.weight, *pattern) if pattern
                  else sparse.CSRMatrix.from_dense(affine.weight))
        return SparseLayer(weight, affine.bias, activation)

    return _network(model, layer)


def int8_network(model: Model, ranges: Sequence[quantization.MinMax] | None = None) -> Network:
    """All layers int8, one scale an output; inputs quantized by ``ranges``, or row by row as they come."""

    def layer(affine: Affine, index: int, activation: str | None) -> Layer:
        codes = quantization.quantize(affine.weight, axis=0)
        if ranges is None:
            return Int8Layer(codes, affine.bias, quantization.Linear(codes, affine.bias, activation=activation))
        scale, zero_point = ranges[index].scale_and_zero_point(symmetric=False)
        linear = quantization.Linear(codes, affine.bias, activation=activation, input_scale=scale,
                                     input_zero_point=zero_point)
        return Int8Layer(codes, affine.bias, linear, (np.array(scale, np.float32), np.array(zero_point, np.int32)))

    return _network(model, layer)
