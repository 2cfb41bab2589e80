"""Weights of 8-bit codes for float activations (W8A32), laid out ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._holder import ArrayHolder
from pycomp._validate import FLOAT32, aligned, given, integer
from pycomp.dense import LANES

from .tensor import INT8, UINT8, QuantizedTensor, check_scale, held


@dataclass(frozen=True, eq=False)
class PackedGroupedMatrix(ArrayHolder):
    """Weights of 8-bit codes with a scale for each output and group of inputs; made by :func:`pack_groups`.

    Its arrays are read-only: what can be written to is copied. An array that owns its memory and is already read-only
    is taken as it is, so no view of it that can be written to may have been made before.

    Attributes
    ----------
    data : array of int8, shape (ceil(N / 16), K, 16)
        ``data[s, k, j]`` is the code from input k to output ``16*s + j``; zero past the last output. The layout does
        not depend on the machine.
    scale : array of float32, shape (ceil(N / 16), groups, 16)
        Of input k: ``scale[s, k // (K // groups), j]``; zero past the last output.
    zero_point : array of int8, the shape of ``scale``, or None
        None where all are 0.
    out_features : int
        N.

    Raises
    ------
    TypeError
        If an array has another dtype, or ``out_features`` is no integer.
    ValueError
        If shapes do not fit, or a scale is not finite or below 2⁻¹²⁶.

    Examples
    --------
    >>> import numpy as np
    >>> from pycomp.quantization import Linear, quantize
    >>> packed = pack_groups(quantize(np.array([[127, 0, 3, -3]], np.float32), group_size=2))
    >>> packed.shape, packed.nbytes
    ((1, 4), 192)
    >>> Linear(packed)(np.ones((1, 4), np.float32))
    array([[127.]], dtype=float32)
    """

    data: NDArray[np.int8]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int8] | None
    out_features: int

    _arrays = ("data", "scale", "zero_point")

    def __post_init__(self) -> None:
        held(self, "data", INT8, 3)
        slices = -(-integer(self.out_features, "out_features", 0) // LANES)
        k = self.data.shape[1]
        if self.data.shape != (slices, k, LANES):
            raise ValueError(f"data has shape {self.data.shape}, expected ({slices}, K, {LANES})")
        groups = held(self, "scale", FLOAT32, 3).shape[1]
        if self.zero_point is not None:
            held(self, "zero_point", INT8, 3)
        if groups == 0 or k % groups:
            raise ValueError(f"scale has {groups} groups, expected a divisor of {k} inputs")
        for name in ("scale", "zero_point"):
            a = getattr(self, name)
            if a is not None and a.shape != (slices, groups, LANES):
                raise ValueError(f"{name} has shape {a.shape}, expected {(slices, groups, LANES)}")
        check_scale(self.scale.swapaxes(1, 2).reshape(-1, groups)[: self.out_features], "scale")

    @property
    def in_features(self) -> int:
        """K."""
        return int(self.__dict__["data"].shape[1])

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return self.in_features // int(self.scale.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """``(out_features, in_features)``, as the matrix that was packed."""
        return self.out_features, self.in_features

    def unpack(self) -> NDArray[np.int8]:
        """The codes again, int8, shape (out_features, in_features).

        Examples
        --------
        >>> import numpy as np
        >>> from pycomp.quantization import quantize
        >>> q = quantize(np.array([[127, 0, 63.5, -127]], np.float32), axis=1, group_size=2)
        >>> pack_groups(q).unpack()
        array([[ 127,    0,   64, -127]], dtype=int8)
        """
        return _rows(self.data, self.out_features)


def _rows(slices: NDArray[Any], n: int) -> NDArray[Any]:
    return np.ascontiguousarray(slices.swapaxes(1, 2).reshape(len(slices) * LANES, slices.shape[1])[:n])


def _slices(rows: NDArray[Any]) -> NDArray[Any]:
    """[N, K] -> [ceil(N / 16), K, 16], zero past the last row."""
    n, k = rows.shape
    slices = aligned((-(-n // LANES), k, LANES), rows.dtype)
    for s in range(len(slices)):
        part = rows[s * LANES : (s + 1) * LANES].T
        slices[s, :, : part.shape[1]] = part
        slices[s, :, part.shape[1] :] = 0
    return given(slices)


def pack_groups(q: Any) -> PackedGroupedMatrix:
    """Lay out quantized weights once, for many products with float activations.

    Parameters
    ----------
    q : QuantizedTensor, shape (N, K)
        Weights as frameworks store them: one row an output. One scale for the tensor, one an output (``axis=0``), or
        one for each output and group of inputs (``axis=1`` and a ``group_size``). Unsigned codes and their zero points
        move down by 128.

    Returns
    -------
    PackedGroupedMatrix

    Raises
    ------
    TypeError
        If ``q`` is something else.
    ValueError
        If it does not have two dimensions, or has scales along another axis.

    Notes
    -----
    Without inputs (K = 0) there are no groups; one scale, 1, stands for them.

    Examples
    --------
    >>> import numpy as np
    >>> from pycomp.quantization import quantize
    >>> packed = pack_groups(quantize(np.eye(3, 8, dtype=np.float32), group_size=4))
    >>> packed.data.shape, packed.scale.shape, packed.group_size
    ((1, 8, 16), (1, 2, 16), 4)
    """
    if not isinstance(q, QuantizedTensor):
        raise TypeError(f"q is a {type(q).__name__}, expected a QuantizedTensor")
    return pack_groups_named(q, "q")


def pack_groups_named(q: QuantizedTensor, name: str) -> PackedGroupedMatrix:
    """:func:`pack_groups` of what the caller knows by another name."""
    if q.data.ndim != 2 or q.axis == (1 if q.group_size is None else 0):
        raise ValueError(f"{name} has shape {q.shape}, axis {q.axis} and group_size {q.group_size}, expected two "
                         "dimensions and one scale, one an output (axis 0), or groups along axis 1")
    n = q.shape[0]
    data, zero = q.data, q.zero_point
    if data.dtype == UINT8:
        data, zero = (data ^ np.uint8(128)).view(np.int8), zero - np.int32(128)
    scale = q.scale
    if q.group_size is not None and q.shape[1] == 0:  # no groups: one of no inputs stands for them
        scale, zero = np.ones((n, 1), np.float32), np.zeros((n, 1), np.int32)
    table = scale.shape if q.group_size is not None else (n, 1)

    def spread(a: NDArray[Any]) -> NDArray[Any]:
        return _slices(np.broadcast_to(a.reshape(-1, 1) if a.ndim < 2 else a, table))

    return PackedGroupedMatrix(_slices(data), spread(scale), spread(zero.astype(np.int8)) if zero.any() else None, n)
