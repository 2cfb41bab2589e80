"""Masks of the best scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp.kernels import dispatch
from pycomp.kernels.entry import NanError

from .._validate import (
    BATCH_NDIM,
    FLOAT32,
    as_array,
    block_shape,
    choice,
    contiguous,
    first,
    flag,
    fraction,
    integer,
)

NORMS = {"sum": 0, "l1": 1, "l2": 2}


def magnitude(w: Any) -> NDArray[np.float32]:
    """Score each weight by its size: ``|w|``.

    The masks take ``by_magnitude=True`` instead, and then make no array of scores.

    Parameters
    ----------
    w : array of float32

    Returns
    -------
    array of float32, of the same shape

    Raises
    ------
    TypeError
        If ``w`` is not a float32 array.

    Examples
    --------
    >>> import numpy as np
    >>> magnitude(np.array([-2, 1], np.float32))
    array([2., 1.], dtype=float32)
    """
    return np.abs(_scores(w, "w"))


def unstructured_mask(scores: Any, sparsity: float, *, by_magnitude: bool = False) -> NDArray[np.bool_]:
    """Keep the entries of the largest scores, wherever they are.

    Parameters
    ----------
    scores : array of float32, any shape
        Any sign; +∞ and −∞ are scores like others, −0 equals +0. Arrays that are not in C order cost a copy.
    sparsity : float
        The part to remove, in [0, 1]. ``round((1 - sparsity) * scores.size)`` entries are kept, halves to even.
    by_magnitude : bool
        Compare ``|scores|``.

    Returns
    -------
    array of bool, of the shape of ``scores``
        True where the entry is kept. Exactly that many are; among equal scores the lower index in C order.

    Raises
    ------
    TypeError
        If ``scores`` is not a float32 array, or ``by_magnitude`` no bool.
    ValueError
        If a score is NaN, or ``sparsity`` is not a number in [0, 1].

    Notes
    -----
    Exact: the k-th largest score is found by counting (no sort, no sampling of the result, no copy of the scores).
    Memory: the mask, and 75 KB of stack.

    Examples
    --------
    >>> import numpy as np
    >>> unstructured_mask(np.array([3, -5, 4, 3], np.float32), 0.5)
    array([ True, False,  True, False])
    >>> unstructured_mask(np.array([3, -5, 4, 3], np.float32), 0.5, by_magnitude=True)
    array([False,  True,  True, False])
    """
    scores = _scores(scores)
    return _largest(scores, _kept(sparsity, scores.size), flag(by_magnitude, "by_magnitude"), scores, "scores")


def nm_mask(scores: Any, n: int, m: int, *, axis: int = -1, by_magnitude: bool = False) -> NDArray[np.bool_]:
    """Keep the n largest of every m scores along an axis.

    Parameters
    ----------
    scores : array of float32, any shape
    n, m : int
        ``0 <= n <= m``; m divides the length of the axis. 2 of 4 is what sparse tensor cores take.
    axis : int
        Any but the last costs a copy.
    by_magnitude : bool
        Compare ``|scores|``.

    Returns
    -------
    array of bool, of the shape of ``scores``
        True where the entry is kept; among equal scores the lower index along the axis is kept first.

    Raises
    ------
    TypeError
        If ``scores`` is not a float32 array, or ``by_magnitude`` no bool.
    ValueError
        If a score is NaN, there is no such axis, n is above m, or m does not divide the axis.

    Examples
    --------
    >>> import numpy as np
    >>> nm_mask(np.array([[1, 2, 3, 4, 9, 9, 9, 8]], np.float32), 2, 4)
    array([[False, False,  True,  True,  True,  True, False, False]])
    """
    scores = _scores(scores)
    m = integer(m, "m", 1, 2**31 - 1)
    n = integer(n, "n", 0, m)
    axis, by_magnitude = _axis(axis, scores), flag(by_magnitude, "by_magnitude")
    if scores.shape[axis] % m:
        raise ValueError(f"m is {m}, which does not divide the {scores.shape[axis]} scores along axis {axis}")
    along = contiguous(np.moveaxis(scores, axis, -1))
    mask = np.empty(along.shape, np.bool_)
    _call("nm_mask_f32", scores, "scores", along.reshape(-1, m), int(by_magnitude), n, mask.reshape(-1, m))
    return np.moveaxis(mask, -1, axis)


def block_mask(
    scores: Any, sparsity: float, block: tuple[int, int], *, by_magnitude: bool = False
) -> NDArray[np.bool_]:
    """Keep the blocks of a matrix that have the largest sums of scores.

    Parameters
    ----------
    scores : array of float32, shape (M, N)
    sparsity : float
        The part of the blocks to remove; ``round((1 - sparsity) * blocks)`` are kept, halves to even.
    block : (int, int)
        Rows and columns of a block; they divide M and N.
    by_magnitude : bool
        Sum ``|scores|``.

    Returns
    -------
    array of bool, shape (M, N)
        True in the blocks that are kept; among equal sums the block that comes first in C order is.

    Raises
    ------
    TypeError
        If ``scores`` is not a float32 array, ``block`` no pair of integers, or ``by_magnitude`` no bool.
    ValueError
        If a score (or a sum: ∞ − ∞) is NaN, blocks do not divide the matrix, or ``sparsity`` is outside [0, 1].

    Notes
    -----
    Sums are float32, by the lane rule over a block's elements in C order; error at most ``γ(69)·Σ|scores| + u·|sum|``,
    where no lane, every sixteenth element, adds up to more than float32 holds.

    Examples
    --------
    >>> import numpy as np
    >>> block_mask(np.array([[1, 1, 0, 3], [1, 1, 0, 0]], np.float32), 0.5, (2, 2))
    array([[ True,  True, False, False],
           [ True,  True, False, False]])
    """
    scores = contiguous(as_array(scores, "scores", FLOAT32, 2))
    height, width = block_shape(block)
    by_magnitude = flag(by_magnitude, "by_magnitude")
    rows, columns = scores.shape
    if rows % height or columns % width:
        raise ValueError(f"blocks of {height} x {width} do not divide scores of {rows} x {columns}")
    sums = np.empty((rows // height, columns // width), np.float32)
    kept = _kept(sparsity, sums.size)
    dispatch.block_sum_f32(scores.reshape(len(sums), height, sums.shape[1], width), int(by_magnitude), sums)
    bands = np.repeat(_largest(sums, kept, False, scores, "the sum of a block of scores"), width, axis=1)
    return np.repeat(bands, height, axis=0)


def channel_mask(scores: Any, sparsity: float, *, axis: int = 0, norm: str = "sum") -> NDArray[np.bool_]:
    """Keep the channels (whole slices along an axis) of the largest scores.

    Parameters
    ----------
    scores : array of float32, any shape
    sparsity : float
        The part of the channels to remove; ``round((1 - sparsity) * channels)`` are kept, halves to even.
    axis : int
        Where the channels are counted: 0 for the outputs of a weight ``[out, in]``. Any but the first costs a copy.
    norm : {"sum", "l1", "l2"}
        A channel's score: the sum of its scores, of their magnitudes (Li et al. 2017), or their Euclidean norm,
        compared by its square: scale scores above 10¹⁹ or below 10⁻²³ first.

    Returns
    -------
    array of bool, shape (scores.shape[axis],)
        True where the channel is kept; among equals the lower index.

    Raises
    ------
    TypeError
        If ``scores`` is not a float32 array.
    ValueError
        If a score (or a sum: ∞ − ∞) is NaN, there is no such axis or norm, or ``sparsity`` is outside [0, 1].

    Notes
    -----
    Sums as in :func:`block_mask`. A channel alone has the sum that it has among others.

    Examples
    --------
    >>> import numpy as np
    >>> channel_mask(np.array([[3, -4], [1, 1]], np.float32), 0.5)
    array([False,  True])
    >>> channel_mask(np.array([[3, -4], [1, 1]], np.float32), 0.5, norm="l2")
    array([ True, False])
    """
    scores = _scores(scores)
    axis = _axis(axis, scores)
    norm = choice(norm, "norm", tuple(NORMS))
    channels = scores.shape[axis]
    kept = _kept(sparsity, channels)
    size = math.prod(scores.shape) // channels if channels else 0
    sums = np.empty((channels, 1), np.float32)
    slices = contiguous(np.moveaxis(scores, axis, 0)).reshape(channels, 1, 1, size)
    dispatch.block_sum_f32(slices, NORMS[norm], sums)
    return _largest(sums.reshape(-1), kept, False, scores, "the sum of a channel of scores")


def _scores(a: Any, name: str = "scores") -> NDArray[np.float32]:
    return as_array(a, name, FLOAT32, BATCH_NDIM)


def _axis(axis: Any, scores: NDArray[np.float32]) -> int:
    return integer(axis, "axis", -scores.ndim, scores.ndim - 1) % scores.ndim


def _kept(sparsity: Any, n: int) -> int:
    """How many of n are kept; halves go to the even count."""
    return round((1 - fraction(sparsity, "sparsity")) * n)


def _largest(
    values: NDArray[np.float32], k: int, by_magnitude: bool, scores: NDArray[np.float32], what: str
) -> NDArray[np.bool_]:
    values = contiguous(values)
    mask = np.empty(values.shape, np.bool_)
    _call("topk_mask_f32", scores, what, values.reshape(-1), int(by_magnitude), k, mask.reshape(-1))
    return mask


def _call(kernel: str, scores: NDArray[np.float32], what: str, *operands: Any) -> None:
    try:
        getattr(dispatch, kernel)(*operands)
    except NanError:
        nan = np.isnan(scores)
        parts = " (infinities of both signs, or parts beyond float32)"
        place = f"; scores is NaN at {first(nan)}" if nan.any() else parts
        raise ValueError(f"{what} is NaN{place}" if what != "scores" else place[2:]) from None
