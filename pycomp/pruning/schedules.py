"""Sparsity as a function of the training step."""

from __future__ import annotations

from .._validate import fraction, integer

__all__ = ["cubic", "linear", "one_shot"]


def _progress(step: int, steps: int) -> float:
    """How much of the way is done: 0 at step 0, 1 from the last step on."""
    steps = integer(steps, "steps", 1)
    return min(integer(step, "step", 0), steps) / steps


def cubic(step: int, steps: int, final: float, *, initial: float = 0.0) -> float:
    """Fast at first, while there is much to remove: ``final + (initial - final)·(1 - step/steps)³``.

    Parameters
    ----------
    step : int
        From 0; ``steps`` and later give ``final``.
    steps : int
        The step at which the final sparsity is reached.
    final, initial : float
        Sparsities in [0, 1].

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If a step is not an integer or a sparsity not a number.
    ValueError
        If a sparsity is outside [0, 1], ``step`` is negative or ``steps`` is below 1.

    Notes
    -----
    Zhu and Gupta (2017), *To prune, or not to prune*, equation 1.

    Examples
    --------
    >>> [round(cubic(step, 4, 0.9), 3) for step in range(6)]
    [0.0, 0.52, 0.787, 0.886, 0.9, 0.9]
    """
    return _between(initial, final, 1 - (1 - _progress(step, steps)) ** 3)


def linear(step: int, steps: int, final: float, *, initial: float = 0.0) -> float:
    """The same amount at every step: ``initial + (final - initial)·step/steps``.

    Parameters
    ----------
    step, steps, final, initial
        As for :func:`cubic`.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        As :func:`cubic`.

    Examples
    --------
    >>> [linear(step, 4, 1.0) for step in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return _between(initial, final, _progress(step, steps))


def one_shot(step: int, steps: int, final: float) -> float:
    """Everything at once: ``final`` at every step.

    Parameters
    ----------
    step, steps : int
        Change nothing, but must be as for :func:`cubic`, in whose place this can stand.
    final : float
        A sparsity in [0, 1].

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        As :func:`cubic`.

    Examples
    --------
    >>> one_shot(0, 4, 0.9)
    0.9
    """
    _progress(step, steps)
    return fraction(final, "final")


def _between(initial: float, final: float, done: float) -> float:
    initial, final = fraction(initial, "initial"), fraction(final, "final")
    return final if done == 1 else initial + (final - initial) * done
