"""How far a result is from the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class ErrorReport:
    """Errors of one result against a reference.

    Attributes
    ----------
    worst_ratio : float
        Largest ``|got - reference| / bound``; above 1 the bound is broken.
    worst_index : tuple of int
        Where.
    max_absolute, mean_absolute : float
    quantiles : dict
        Of ``|got - reference| / bound`` at 0.5, 0.9, 0.99.
    trusted : bool
        False where more than half of the reference is zeros, so that agreement proves little.

    Examples
    --------
    >>> report = error_report([1.0, 2.5], [1.0, 2.0], 1.0)
    >>> report.worst_index, report.max_absolute, report.trusted
    ((1,), 0.5, True)
    """

    worst_ratio: float
    worst_index: tuple[int, ...]
    max_absolute: float
    mean_absolute: float
    quantiles: dict[float, float]
    trusted: bool


def _real(a: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(a)
    if array.dtype.kind == "c":
        raise TypeError(f"{name} has dtype {array.dtype}, expected real numbers")
    with np.errstate(invalid="ignore"):  # a NaN that signals becomes a quiet one
        return array.astype(np.float64)


def _ratios(got: ArrayLike, reference: ArrayLike, bound: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    given = _real(got, "got"), _real(reference, "reference"), _real(bound, "bound")
    if (given[2] < 0).any():
        raise ValueError(f"bound holds {given[2].min()}, expected at least 0")
    with np.errstate(invalid="ignore", divide="ignore"):
        got, reference, bound = np.broadcast_arrays(*given)
        error = np.abs(got - reference)
        same = (got == reference) | (np.isnan(got) & np.isnan(reference))
        error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
        return error, np.where(error == 0, 0.0, error / bound)


def error_report(got: ArrayLike, reference: ArrayLike, bound: ArrayLike) -> ErrorReport:
    """Errors of ``got`` against ``reference``, in units of ``bound``.

    Parameters
    ----------
    got, reference, bound : array_like
        Broadcast against each other. NaN agrees with NaN and with nothing else; an infinity with itself.

    Returns
    -------
    ErrorReport

    Raises
    ------
    TypeError
        If one does not hold real numbers.
    ValueError
        If a bound is negative.

    Examples
    --------
    >>> error_report([1.0, 2.5], [1.0, 2.0], 1.0).worst_ratio
    0.5
    """
    error, ratio = _ratios(got, reference, bound)
    if ratio.size == 0:
        return ErrorReport(0.0, (), 0.0, 0.0, {}, False)
    where = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    finite = np.asarray(reference, np.float64)
    trusted = bool(np.count_nonzero(finite) * 2 >= finite.size)
    with np.errstate(invalid="ignore"):
        quantiles = {q: float(np.quantile(ratio, q)) for q in (0.5, 0.9, 0.99)}
    return ErrorReport(
        float(ratio[where]),
        tuple(int(i) for i in where),
        float(error.max()),
        float(error.mean()),
        quantiles,
        trusted,
    )


def assert_within_bound(got: ArrayLike, reference: ArrayLike, bound: ArrayLike, what: str = "result") -> float:
    """Raise unless ``|got - reference| <= bound`` everywhere; return the worst ratio.

    Parameters
    ----------
    got, reference : array_like
        Of the same shape. They agree as for :func:`error_report`.
    bound : array_like
        Broadcast against them.
    what : str
        What the message calls ``got``.

    Returns
    -------
    float
        The largest ``|got - reference| / bound``: at most 1.

    Raises
    ------
    AssertionError
        With the worst ratio, its index and the two values; or with the shapes, where they differ.
    TypeError, ValueError
        As :func:`error_report`.

    Examples
    --------
    >>> assert_within_bound([1.0], [1.25], 0.5)
    0.5
    """
    got, reference = np.asarray(got), np.asarray(reference)
    if got.shape != reference.shape:
        raise AssertionError(f"{what} has shape {got.shape}, expected {reference.shape}")
    report = error_report(got, reference, bound)
    if not report.worst_ratio <= 1:
        i = report.worst_index
        allowed = np.broadcast_to(np.asarray(bound), got.shape)[i]
        raise AssertionError(f"{what}{list(i)} is {got[i]!r}, reference {reference[i]!r}: "
                             f"error {report.worst_ratio:.3g} times the bound {allowed:.3g}")
    return report.worst_ratio


def ulp_distance(a: ArrayLike, b: ArrayLike) -> NDArray[np.int64]:
    """Steps from one float32 to the next between ``a`` and ``b``; 0 where they are equal (+0 and -0 are) or both NaN.

    Parameters
    ----------
    a, b : array_like
        Converted to float32 and broadcast against each other.

    Returns
    -------
    array of int64
        2⁶³ - 1 where one alone is NaN. Infinity is one step past the largest number.

    Examples
    --------
    >>> import numpy as np
    >>> ulp_distance([1, 0, np.nan], [np.nextafter(np.float32(1), np.float32(2)), -0.0, np.nan])
    array([1, 0, 0])
    """
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)

    def order(x: NDArray[np.float32]) -> NDArray[np.int64]:
        bits = np.atleast_1d(x).view(np.int32).astype(np.int64)
        return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits).reshape(x.shape)

    nan = np.isnan(a) | np.isnan(b)
    apart = np.abs(order(a) - order(b))
    return np.where(nan, np.where(np.isnan(a) & np.isnan(b), 0, np.iinfo(np.int64).max), apart)
