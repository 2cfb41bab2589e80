"""Does a function keep a kernel's contract?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cases import cases
from .metrics import assert_within_bound


def conformance(kernel: str, function: Callable[..., None], *, limit: int = 60) -> float:
    """Run ``function`` against the reference of ``kernel`` at every edge size; return the worst error in bounds.

    Parameters
    ----------
    kernel : str
        A name of the contract, ``pycomp.info()["kernels"]`` lists them.
    function : callable
        Takes the kernel's operands in the contract's order, inputs then outputs, and fills the outputs.
    limit : int
        How many mixtures of edge sizes to try besides each alone.

    Returns
    -------
    float
        The largest error as a fraction of the stated bound: at most 1; 0 means exact.

    Raises
    ------
    AssertionError
        At the first case where an error passes the bound or an input was changed; the message makes the case again.

    Examples
    --------
    >>> from pycomp import dense
    >>> def mine(x, w, bias, activation, y):
    ...     product = x @ w.transpose(1, 0, 2).reshape(w.shape[1], 16 * len(w))[:, : y.shape[1]]
    ...     kinds = "identity", "relu", "gelu", "gelu_tanh", "silu"
    ...     y[...] = dense.activate(product if bias is None else product + bias, kinds[activation])
    >>> conformance("gemm_f32", mine, limit=5) <= 1
    True
    """
    worst = 0.0
    for case in cases(kernel, limit):
        before = [v.copy() if isinstance(v, np.ndarray) else v for v in case.inputs]
        got = case.run(function)
        for operand, value, copy in zip(case.kernel.inputs, case.inputs, before, strict=True):
            if isinstance(value, np.ndarray) and value.tobytes() != copy.tobytes():
                raise AssertionError(f"{case!r}: the input {operand.name} was changed")
        reference = case.reference()
        bounds = case.bound(reference)
        for operand, y, exact, bound in zip(case.kernel.outputs, got, reference, bounds, strict=True):
            worst = max(worst, assert_within_bound(y, exact, bound, f"{case!r}: {operand.name}"))
    return worst
