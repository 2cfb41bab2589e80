"""The distillation loss of a language model's last layer, without ever holding [tokens, vocabulary]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from pycomp import dense
from pycomp.kernels import dispatch

from .._sums import total
from .._validate import FLOAT32, as_array, choice, flag, fraction, fresh, from_lists, integer
from ._loss import kd_loss
from ._rows import REDUCTIONS, Alone, WithGrad, as_labels, counted, divisor, row_weights, temperatures
from ._top_k import top_k_loss

if TYPE_CHECKING:
    from typing_extensions import Unpack

PARTS, FEWEST = 128, 64
"""Chunks that the tokens are cut into, so that all arrays of a chunk are a twentieth of one of all tokens; but the
products want some rows."""
COLUMNS = 2048
"""Outputs whose part of the gradient by the weights is made at once: their slopes, turned, stay in cache."""

Floats = NDArray[np.float32]
Graded = tuple[float, Floats, Floats]


@overload
def fused_linear_kd_loss(
    hidden: Any, weight: Any, *, teacher_logits: Any = ..., teacher_hidden: Any = ..., teacher_weight: Any = ...,
    teacher_top_k: Any = ..., labels: Any = ..., alpha: float = ..., label_smoothing: float = ...,
    ignore_index: int | None = ..., chunk_size: int | None = ..., **options: Unpack[Alone]
) -> float: ...
@overload
def fused_linear_kd_loss(
    hidden: Any, weight: Any, *, teacher_logits: Any = ..., teacher_hidden: Any = ..., teacher_weight: Any = ...,
    teacher_top_k: Any = ..., labels: Any = ..., alpha: float = ..., label_smoothing: float = ...,
    ignore_index: int | None = ..., chunk_size: int | None = ..., **options: Unpack[WithGrad]
) -> Graded: ...
def fused_linear_kd_loss(
    hidden: Any,
    weight: Any,
    *,
    teacher_logits: Any = None,
    teacher_hidden: Any = None,
    teacher_weight: Any = None,
    teacher_top_k: Any = None,
    labels: Any = None,
    temperature: Any = 1.0,
    alpha: float = 0.5,
    label_smoothing: float = 0.0,
    mask: Any = None,
    weights: Any = None,
    ignore_index: int | None = None,
    reduction: str = "batchmean",
    scale_by_t2: bool = True,
    chunk_size: int | None = None,
    check_finite: bool = False,
    return_grad: bool = False,
) -> float | Graded:
    """:func:`kd_loss` of ``hidden @ weight.T``, in chunks of tokens.

    The logits of a chunk are made and compared with the teacher's; from their gradient comes its share of the gradients
    by ``hidden`` and ``weight``; then the next chunk takes their memory.

    Parameters
    ----------
    hidden : array of float32, shape (N, D)
        What the student's last layer sees, a row a token.
    weight : array of float32, shape (V, D)
        The student's last layer.
    teacher_logits : array of float32, shape (N, V), optional
    teacher_hidden, teacher_weight : arrays of float32, shapes (N, E) and (V, E), optional
        The teacher's, whose logits are then made in chunks as well.
    teacher_top_k : pair of arrays, shapes (N, k), optional
        Probabilities and classes, as :func:`top_k_kd_loss` takes them; without labels. One of the three teachers is
        given.
    labels, temperature, alpha, label_smoothing, mask, weights, ignore_index, scale_by_t2
        As for :func:`kd_loss`.
    reduction : {"batchmean", "mean", "sum"}
        As for :func:`kd_loss`.
    chunk_size : int, optional
        Tokens at a time; by default a 128th of them, at least 64. More are faster; the results are the same bits.
    check_finite : bool
        Raise where a token's logits on either side hold NaN or ``+inf``, instead of NaN for the loss.
    return_grad : bool
        Return ``(loss, grad_hidden, grad_weight)``.

    Returns
    -------
    loss : float
    grad_hidden, grad_weight : arrays of float32, the shapes of ``hidden`` and ``weight``

    Raises
    ------
    TypeError
        If an array has the wrong dtype.
    ValueError
        If shapes do not fit, not exactly one teacher is given, or as for :func:`kd_loss`.

    Notes
    -----
    The loss is that of :func:`kd_loss` on ``dense.linear(hidden, weight)``, whose rows do not depend on their chunk,
    with its bounds, for temperatures from 1e-3 to 1e4. ``grad_hidden`` is within ``γ(V)·Σ|g||W|`` of the exact product
    with the gradient g of the logits; ``grad_weight``, whose chains go on from chunk to chunk, within
    ``γ(N)·Σ|g||hidden|``. Workspace: 5 arrays (chunk, V), and the weights packed, twice for gradients.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.standard_normal((6, 4), np.float32), rng.standard_normal((10, 4), np.float32)
    >>> fused_linear_kd_loss(hidden, weight, teacher_hidden=hidden, teacher_weight=weight)
    0.0
    """
    hidden, weight = as_array(hidden, "hidden", FLOAT32, 2), as_array(weight, "weight", FLOAT32, 2)
    count, classes = len(hidden), len(weight)
    if hidden.shape[1] != weight.shape[1]:
        raise ValueError(f"hidden has {hidden.shape[1]} columns, weight has {weight.shape[1]}")
    if choice(reduction, "reduction", REDUCTIONS) == "none":
        raise ValueError("reduction is 'none', expected 'batchmean', 'mean' or 'sum'")
    check_finite, return_grad = flag(check_finite, "check_finite"), flag(return_grad, "return_grad")
    teacher = _Teacher(count, classes, teacher_logits, teacher_hidden, teacher_weight, teacher_top_k)
    if teacher_top_k is not None and labels is not None:
        raise ValueError("labels are given with teacher_top_k, expected one of them")
    alpha, smoothing = fraction(alpha, "alpha"), fraction(label_smoothing, "label_smoothing")
    size = max(FEWEST, -(-count // PARTS)) if chunk_size is None else integer(chunk_size, "chunk_size", 1)
    known = None if labels is None else as_labels(labels, (count,))
    kept = counted(mask, known, ignore_index, (count,))
    each = temperatures(temperature, (count,))
    w = row_weights(weights, kept, (count,), reduction)
    w = w / divisor(reduction, w, kept)
    kept &= w > 0
    student = _Layer(weight)
    turned = dense.pack(weight.T) if return_grad else None
    losses = np.zeros(count)
    by_hidden, by_weight = np.zeros(hidden.shape, FLOAT32), np.zeros(weight.shape, FLOAT32)
    for first in range(0, count, size):
        rows = slice(first, min(first + size, count))
        options: dict[str, Any] = {"temperature": each[rows], "mask": kept[rows], "weights": w[rows],
                                   "reduction": "none", "scale_by_t2": scale_by_t2, "return_grad": return_grad}
        if known is not None:
            options |= {"labels": np.where(kept[rows], known[rows], 0), "alpha": alpha, "label_smoothing": smoothing}
        seen = hidden[rows] if kept[rows].all() else np.where(kept[rows, None], hidden[rows], np.float32(0))
        found: Any = teacher.loss(student(seen), rows, options)
        losses[rows] = found if turned is None else found[0]
        if check_finite and (bad := np.flatnonzero(np.isnan(losses[rows]))).size:
            raise ValueError(f"logits of token {first + bad[0]} hold NaN or +inf, the student's or the teacher's")
        if turned is None:
            continue
        slopes = found[1]
        dense.linear(slopes, turned, out=by_hidden[rows])
        packed = dense.pack(seen.T).data
        for column in range(0, classes, COLUMNS):
            part = by_weight[column : column + COLUMNS]
            dispatch.gemm_add_f32(np.ascontiguousarray(slopes[:, column : column + COLUMNS].T), packed, part, part)
    loss = float(total(losses))
    return (loss, by_hidden, by_weight) if return_grad else loss


class _Layer:
    """The last layer of a model; its logits of some tokens take the memory of those before."""

    def __init__(self, weight: Floats) -> None:
        self._packed, self._logits = dense.pack(weight), fresh((0, len(weight)), FLOAT32)

    def __call__(self, hidden: Floats) -> Floats:
        if len(self._logits) < len(hidden):
            self._logits = fresh((len(hidden), self._logits.shape[1]), FLOAT32)
        return dense.linear(hidden, self._packed, out=self._logits[: len(hidden)])


class _Teacher:
    """What the teacher says of some tokens, in whichever form it is given."""

    def __init__(self, count: int, classes: int, logits: Any, hidden: Any, weight: Any, top_k: Any) -> None:
        forms = {"teacher_logits": logits, "teacher_hidden": hidden, "teacher_weight": weight, "teacher_top_k": top_k}
        given = [name for name, value in forms.items() if value is not None]
        if len(given) != 1 + (hidden is not None) or (hidden is None) != (weight is None):
            raise ValueError(f"{' and '.join(given) or 'no teacher'} given, expected one of teacher_logits, "
                             "teacher_hidden with teacher_weight, and teacher_top_k")
        self._logits = self._hidden = self._top_k = None
        if logits is not None:
            self._logits = as_array(logits, "teacher_logits", FLOAT32, 2)
            if self._logits.shape != (count, classes):
                raise ValueError(f"teacher_logits has shape {self._logits.shape}, expected {(count, classes)}")
        elif hidden is not None:
            self._hidden = as_array(hidden, "teacher_hidden", FLOAT32, 2)
            weight = as_array(weight, "teacher_weight", FLOAT32, 2)
            if self._hidden.shape[0] != count or weight.shape != (classes, self._hidden.shape[1]):
                raise ValueError(f"teacher_hidden has shape {self._hidden.shape}, teacher_weight {weight.shape}, "
                                 f"expected ({count}, E) and ({classes}, E)")
            self._layer = _Layer(weight)
        else:
            if not isinstance(top_k, (tuple, list)) or len(top_k) != 2:
                raise TypeError(f"teacher_top_k is a {type(top_k).__name__}, expected a pair (probabilities, classes)")
            self._top_k = tuple(from_lists(a, "teacher_top_k", "numbers") for a in top_k)
            if any(a.ndim != 2 or len(a) != count for a in self._top_k):
                shapes = [a.shape for a in self._top_k]
                raise ValueError(f"teacher_top_k has shapes {shapes}, expected ({count}, k) twice")

    def loss(self, student: Floats, rows: slice, options: dict[str, Any]) -> Any:
        if self._top_k is not None:
            return top_k_loss(student, *(a[rows] for a in self._top_k), **options, first=rows.start)
        logits = self._logits[rows] if self._logits is not None else self._layer(self._hidden[rows])  # type: ignore[index]
        return kd_loss(student, logits, **options)
