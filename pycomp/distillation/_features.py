"""Losses on the features of hidden layers: what the student should see as the teacher does, with exact gradients.

Features are taken as float32. Matrix products are those of :mod:`pycomp.dense`, float32 with a fixed chain; all else
is float64 from operations that are rounded exactly. So the bits are the same on every machine, and a student that
equals its teacher has loss 0.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from pycomp import dense
from pycomp.kernels import dispatch

from .._floats import widened
from .._sums import total
from .._validate import FLOAT32, contiguous, flag, fresh, integer, positive, rows
from ._double import Doubles
from ._rows import Distance, as_floats

Floats = NDArray[np.float32]
Graded = tuple[float, Floats]
FeatureLoss = float | Graded
Projected = tuple[float, Floats, Floats]
TILE = 64
"""Rows and columns of a square that is transposed at a time."""


def _batch(a: Any, name: str) -> Floats:
    """A batch of features as float32, of any shape; they may be infinite or NaN."""
    array = as_floats(a, name)
    if array.ndim < 2 or array.shape[0] == 0 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected a batch of features, (B, D) or (B, ...), not empty")
    with np.errstate(over="ignore"):
        return widened(array, FLOAT32)


def _finite(array: Floats, name: str) -> None:
    x = rows(array.reshape(len(array), -1))
    low, high = np.empty((2, len(x)), FLOAT32)
    dispatch.range_f32(x, low, high)
    if not (np.isfinite(low) & np.isfinite(high)).all():
        raise ValueError(f"{name} is not finite in float32")


def _features(a: Any, name: str) -> Floats:
    """Finite features of shape (B, D), the axes after the first joined."""
    array = _batch(a, name)
    _finite(array, name)
    return array.reshape(array.shape[0], -1)


def pair(student: Any, teacher: Any, return_grad: Any) -> tuple[Floats, Floats]:
    flag(return_grad, "return_grad")
    s, t = _features(student, "student"), _features(teacher, "teacher")
    if len(s) != len(t):
        raise ValueError(f"student has {len(s)} examples, teacher has {len(t)}")
    return s, t


def at_least(s: Floats, count: int) -> None:
    if len(s) < count:
        raise ValueError(f"student and teacher have {len(s)} examples, expected at least {count}")


def _near_one(x: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """``x`` over a power of two near its largest element, so that products of elements are floats; and the exponent."""
    exponent = int(np.frexp(max(x.max(), -x.min()))[1])
    return _times_two_to(x, -exponent), exponent


def _times_two_to(x: NDArray[Any], exponent: int) -> NDArray[Any]:
    """``x`` times a power of two, which may be beyond its type's range."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(x, exponent)  # type: ignore[no-any-return]


def _units(x: Floats) -> tuple[Floats, Doubles]:
    """Rows of length 1, 0 for rows of zeros; and 1/length, 0 there."""
    unit, inverse = fresh(x.shape, FLOAT32), np.empty(len(x))
    dispatch.unit_rows_f32(contiguous(x), inverse, unit)
    return unit, inverse


def _units_apart(student: NDArray[Any], teacher: NDArray[Any]) -> Doubles:
    """Squared distances of rows brought to length 1; both float32 or both float64."""
    loss = np.empty(len(student))
    run = dispatch.units_apart_f32 if student.dtype == FLOAT32 else dispatch.units_apart_f64
    run(student, teacher, loss)
    return loss


def _units_apart_grad(
    student: NDArray[Any], teacher: NDArray[Any], scale: float
) -> tuple[Doubles, NDArray[Any]]:
    """The same, and ``scale`` times their gradient by the student."""
    loss, grad = np.empty(len(student)), fresh(student.shape, student.dtype)
    run = dispatch.units_apart_grad_f32 if student.dtype == FLOAT32 else dispatch.units_apart_grad_f64
    run(student, teacher, scale, loss, grad)
    return loss, grad


def _divergence(
    student: Floats, given: Floats, distance: Distance, temperature: float, scale: float, return_grad: bool
) -> tuple[float, Floats | None]:
    """``scale`` times the sum of a distance of rows; and its gradient by the student, or None."""
    temperatures, scales = (np.full(len(student), number) for number in (temperature, scale))
    loss, grad = np.empty(len(student)), fresh(student.shape, FLOAT32) if return_grad else None
    if grad is None:
        dispatch.divergence_f32(student, given, distance, 0.0, temperatures, scales, loss)
    else:
        dispatch.divergence_grad_f32(student, given, distance, 0.0, temperatures, scales, loss, grad)
    return float(total(loss)), grad


def _plus_transposed(a: Floats) -> Floats:
    """``a + aᵀ`` in place, tile by tile: rows and columns of whole matrices push each other out of caches."""
    for i in range(0, len(a), TILE):
        for j in range(0, i + 1, TILE):
            low, high = a[i : i + TILE, j : j + TILE], a[j : j + TILE, i : i + TILE]
            both = low + high.T
            low[...], high[...] = both, both.T
    return a


def _with_gradient(loss: Any, grad: NDArray[Any], like: Any) -> Graded:
    with np.errstate(over="ignore", under="ignore"):
        return float(loss), grad.astype(FLOAT32, copy=False).reshape(np.shape(like))


@overload
def hint_loss(student: Any, teacher: Any, projection: Any = ..., *, return_grad: Literal[False] = ...) -> float: ...
@overload
def hint_loss(student: Any, teacher: Any, projection: None = ..., *, return_grad: Literal[True]) -> Graded: ...
@overload
def hint_loss(student: Any, teacher: Any, projection: Any, *, return_grad: Literal[True]) -> Projected: ...
def hint_loss(
    student: Any, teacher: Any, projection: Any = None, *, return_grad: bool = False
) -> FeatureLoss | Projected:
    """Half the squared distance of the projected student from the teacher (Romero et al., FitNets, 2015).

    ``Σ_i |student_i·Wᵀ - teacher_i|² / (2B)``.

    Parameters
    ----------
    student : array of floats, shape (B, ...)
        Features, D_s of each example. Taken as float32, as all features here: what is beyond its range is refused.
    teacher : array of floats, shape (B, ...)
        D_t of each.
    projection : array of float32, shape (D_t, D_s), optional
        W, trained with the student; without it D_s must be D_t.
    return_grad : bool
        Return ``(loss, grad)``, and with a projection ``(loss, grad, grad_projection)``.

    Returns
    -------
    loss : float
    grad, grad_projection : arrays of float32, the shapes of ``student`` and ``projection``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If shapes do not fit or a value is not finite.

    Notes
    -----
    The products are float32. With r = student·Wᵀ - teacher, E = (D_s + 4)·2⁻²³·|student|·|W|ᵀ by element and |E| its
    norm, the loss is within √(2·loss/B)·|E| + |E|²/(2B) + 2⁻²⁸·loss; without a projection E is 0. By element ``grad``
    is within (E + (D_t + 4)·2⁻²³·|r|)·|W|/B and ``grad_projection`` within (E + (B + 4)·2⁻²³·|r|)ᵀ·|student|/B, but for
    what float32 loses below 2⁻¹²⁶. Without a projection ``grad`` is r/B within 2⁻²⁸ relative, rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> hint_loss(np.array([[1, 2]], np.float32), np.array([[5]], np.float32), np.array([[1, 1]], np.float32))
    2.0
    """
    s, t = pair(student, teacher, return_grad)
    expected = (t.shape[1], s.shape[1])
    if projection is not None and (shape := as_floats(projection, "projection").shape) != expected:
        raise ValueError(f"projection has shape {shape}, expected (D_t, D_s) = {expected}")
    w = None if projection is None else _features(projection, "projection")
    if w is None and s.shape[1] != t.shape[1]:
        raise ValueError(f"student has {s.shape[1]} features, teacher {t.shape[1]}, expected a projection of shape "
                         f"{expected}")
    output, t = rows(s if w is None else dense.matmul(s, w.T)), rows(t)
    loss, by_output = _divergence(output, t, Distance.SQUARED_LOGITS, 1.0, 0.5 / len(s), return_grad)
    if by_output is None:
        return loss
    by_student = by_output if w is None else dense.matmul(by_output, w)
    result = loss, by_student.reshape(np.shape(student))
    return result if w is None else (*result, dense.matmul(by_output.T, s))


@overload
def attention_loss(student: Any, teacher: Any, *, power: int = ..., return_grad: Literal[False] = ...) -> float: ...
@overload
def attention_loss(student: Any, teacher: Any, *, power: int = ..., return_grad: Literal[True]) -> Graded: ...
def attention_loss(student: Any, teacher: Any, *, power: int = 2, return_grad: bool = False) -> FeatureLoss:
    """Distance of where the two look (Zagoruyko and Komodakis, Attention Transfer, 2017).

    The map of an example is Q = Σ_c |A_c|^power over its channels, brought to length 1:
    ``Σ_i |Q_s/|Q_s| - Q_t/|Q_t||² / B``.

    Parameters
    ----------
    student, teacher : array of floats, shapes (B, C_s, ...) and (B, C_t, ...)
        Channels first; the axes after them are the same. Taken as float32: what is beyond its range is refused.
    power : int
        1 to 8.
    return_grad : bool

    Returns
    -------
    loss : float
    grad : array of float32, the shape of ``student``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If shapes do not fit, a value or its power is not finite, or ``power`` is out of range.

    Notes
    -----
    With n positions, C the larger number of channels and e = (C + power + n + 16)·2⁻⁵⁰, the loss is within e·√loss +
    e². Each element of the gradient is within 8e·power·|A|^(power - 1)/(B·|Q_s|), and rounded once to float32.

    Powers are float64: those below 1e-308 lose digits, and from 1e-324 down they count as 0.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    >>> attention_loss(a, 3 * a) < 1e-15
    True
    """
    power = integer(power, "power", 1, 8)
    s, t = _batch(student, "student"), _batch(teacher, "teacher")
    flag(return_grad, "return_grad")
    if min(s.ndim, t.ndim) < 3 or s.shape[0] != t.shape[0] or s.shape[2:] != t.shape[2:]:
        raise ValueError(f"student has shape {s.shape}, teacher has {t.shape}, "
                         "expected (B, C, ...) that differ in C alone")
    count = len(s)

    def attention(a: Floats, name: str) -> tuple[Floats, Doubles]:
        x = contiguous(a.reshape(count, a.shape[1], -1))
        sums = np.empty((count, x.shape[2]))
        dispatch.attention_map_f32(x, power, sums)
        if not np.isfinite(sums).all():
            _finite(x, name)
            raise ValueError(f"{name} has features whose sums of |x|^{power} are beyond float64")
        return x, sums

    (x, maps), (_, wanted) = attention(s, "student"), attention(t, "teacher")
    if not return_grad:
        return float(total(_units_apart(maps, wanted)) / count)
    loss, by_map = _units_apart_grad(maps, wanted, power / count)
    grad = fresh(x.shape, x.dtype)
    dispatch.attention_map_grad_f32(x, power, by_map, grad)
    return float(total(loss) / count), grad.reshape(s.shape)


@overload
def similarity_loss(student: Any, teacher: Any, *, return_grad: Literal[False] = ...) -> float: ...
@overload
def similarity_loss(student: Any, teacher: Any, *, return_grad: Literal[True]) -> Graded: ...
def similarity_loss(student: Any, teacher: Any, *, return_grad: bool = False) -> FeatureLoss:
    """Distance of which examples look alike (Tung and Mori, Similarity-Preserving, 2019).

    With G = A·Aᵀ, rows brought to length 1: ``|G_s - G_t|² / B²``, the squares of all entries summed.

    Parameters
    ----------
    student, teacher : array of floats, shapes (B, ...)
        Features of the same examples, as many as each has. Taken as float32: what is beyond its range is refused.
    return_grad : bool

    Returns
    -------
    loss : float
    grad : array of float32, the shape of ``student``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If the batches differ or a value is not finite.

    Notes
    -----
    With e the largest over i of (D + 4)·2⁻²²·|A_i|·|A|/|G_i| of the student, plus that of the teacher, the loss is
    within e·√(loss/B) + e²/B. The gradient is within 16·(e + (B + 4)·2⁻²³)·|A|·√(Σ_i 1/|G_i|²)/B² in norm, A and G the
    student's, but for what float32 loses below 2⁻¹²⁶.

    G is float32, of features times a power of two, which changes nothing: the largest is near 1, and an example whose
    features are below 1e-22 of it counts as 0.

    Examples
    --------
    >>> import numpy as np
    >>> similarity_loss(np.eye(2, dtype=np.float32), np.ones((2, 3), np.float32)).__round__(6)
    0.292893
    """
    (s, exponent), (t, _) = map(_near_one, pair(student, teacher, return_grad))
    alike, wanted = dense.matmul(s, s.T), dense.matmul(t, t.T)
    square = float(len(s)) ** 2
    if not return_grad:
        return float(total(_units_apart(alike, wanted)) / square)
    loss, by_gram = _units_apart_grad(alike, wanted, 1.0 / square)
    grad = dense.matmul(_plus_transposed(by_gram), s)
    return _with_gradient(total(loss) / square, _times_two_to(grad, -exponent), student)


@overload
def cka_loss(student: Any, teacher: Any, *, return_grad: Literal[False] = ...) -> float: ...
@overload
def cka_loss(student: Any, teacher: Any, *, return_grad: Literal[True]) -> Graded: ...
def cka_loss(student: Any, teacher: Any, *, return_grad: bool = False) -> FeatureLoss:
    """1 - linear centred kernel alignment (Kornblith et al., 2019).

    With X, Y the features less their means over the batch: ``1 - |YᵀX|² / (|XᵀX|·|YᵀY|)``, Frobenius norms. It does not
    see rotations and scale.

    Parameters
    ----------
    student, teacher : array of floats, shapes (B, ...)
        Features of the same examples, at least two. Taken as float32: what is beyond its range is refused.
    return_grad : bool

    Returns
    -------
    loss : float
    grad : array of float32, the shape of ``student``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If the batches differ or hold fewer than two examples, or a value is not finite.

    Notes
    -----
    With e = (D + 8)·2⁻²³·|X|²/|XXᵀ| of the student plus that of the teacher, of which the last factor is at most
    √(B - 1), the loss is within 2e·√loss + e². The gradient is within (16e + (B + 4)·2⁻²²·√loss)·|X|/|XXᵀ| in norm, X
    the student's, but for what float32 loses below 2⁻¹²⁶. Both hold where no mean is above 2²⁰ times the root mean
    square of X.

    By Gram matrices (B, B), as half the squared distance of K_x/|K_x| and K_y/|K_y|: exact where they agree. They are
    float32, of deviations times a power of two, which changes nothing: the largest is near 1.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0, 1], [1, 0], [2, 5]], np.float32)
    >>> cka_loss(x, 2 * x[:, ::-1] + 3) < 1e-12
    True
    """
    s, t = pair(student, teacher, return_grad)
    at_least(s, 2)

    def gram(a: Floats) -> tuple[Floats, int, Floats]:
        wide = a.astype(np.float64)
        near, exponent = _near_one(wide - total(wide.T) / len(a))
        x = near.astype(FLOAT32)
        return x, exponent, dense.matmul(x, x.T).reshape(1, -1)

    (x, exponent, alike), (_, _, wanted) = gram(s), gram(t)
    if not return_grad:
        return 0.5 * float(_units_apart(alike, wanted)[0])
    loss, by_gram = _units_apart_grad(alike, wanted, 1.0)  # half of it, twice: by K and by Kᵀ, which are the same
    grad = dense.matmul(by_gram.reshape(len(s), len(s)), x).astype(np.float64)
    grad = _times_two_to(grad - total(grad.T) / len(s), -exponent)
    return _with_gradient(0.5 * loss[0], grad, student)


@overload
def contrastive_loss(
    student: Any, teacher: Any, *, temperature: float = ..., return_grad: Literal[False] = ...
) -> float: ...
@overload
def contrastive_loss(student: Any, teacher: Any, *, temperature: float = ..., return_grad: Literal[True]) -> Graded: ...
def contrastive_loss(
    student: Any, teacher: Any, *, temperature: float = 0.07, return_grad: bool = False
) -> FeatureLoss:
    """Each student's features against its own teacher's among those of the batch (Tian et al., CRD, 2020; InfoNCE).

    With rows brought to length 1: ``-Σ_i log softmax_j(<s_i, t_j>/T)_i / B``.

    Parameters
    ----------
    student, teacher : array of floats, shapes (B, ...)
        As many features each; the other teachers of the batch are the negatives. Taken as float32: what is beyond its
        range is refused.
    temperature : float
    return_grad : bool

    Returns
    -------
    loss : float
    grad : array of float32, the shape of ``student``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If shapes do not fit, a value is not finite, or the temperature is not above 0 and finite.

    Notes
    -----
    The cosines are float32. With D features and T from 1e-3 to 1e4 the loss is within (D + 4)·2⁻²²/T + 2⁻²⁸·loss. The
    gradient of an example is within ((D + 4)/T + B + 8)·2⁻²¹/(B·T·|s_i|) in norm, but for what float32 loses
    below 2⁻¹²⁶.

    Examples
    --------
    >>> import numpy as np
    >>> round(contrastive_loss(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), temperature=1.0), 6)
    0.313262
    """
    temperature = positive(temperature, "temperature")
    s, t = pair(student, teacher, return_grad)
    if s.shape[1] != t.shape[1]:
        raise ValueError(f"student has {s.shape[1]} features, teacher has {t.shape[1]}")
    (u, inverse), (v, _) = _units(s), _units(t)
    cosines = dense.matmul(u, v.T)
    own = np.eye(len(s), dtype=FLOAT32)
    loss, by_cosine = _divergence(cosines, own, Distance.CROSS_ENTROPY, temperature, 1.0 / len(s), return_grad)
    if by_cosine is None:
        return loss
    grad = fresh(u.shape, FLOAT32)
    dispatch.unit_rows_grad_f32(u, inverse, dense.matmul(by_cosine, v), grad)
    return _with_gradient(loss, grad, student)
