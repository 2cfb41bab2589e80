"""What to choose for a goal, and why, in sentences; also what did not pay."""

from __future__ import annotations

from dataclasses import dataclass

from pycomp import _validate

from .engine import Comparison, Row

GOALS = ("size", "latency", "accuracy")
# Quartiles further apart than this part of the median: something else was running.
UNSTEADY = 0.5


@dataclass(frozen=True)
class Recommendation:
    """What to choose for a goal; made by :func:`recommend`.

    Attributes
    ----------
    goal : str
        One of :data:`GOALS`.
    choice : str
        The name of a variant.
    reasons : tuple of str
        Sentences: why this one, its accuracy, its size, and its time at each batch size.

    Examples
    --------
    >>> found = Recommendation("size", "int8", ("Fewest stored bytes.",))
    >>> print(f"For {found.goal}: {found.choice}. {found.reasons[0]}")
    For size: int8. Fewest stored bytes.
    """

    goal: str
    choice: str
    reasons: tuple[str, ...]


def recommend(comparison: Comparison, goal: str) -> Recommendation:
    """The variant for a goal.

    ``size`` and ``latency`` choose among those whose accuracy is not below the lower end of the teacher's 95 %
    interval: fewest stored bytes, or the shortest median at the first batch size and whatever has a speed that is not
    told apart from it, as quartiles overlap. Of these, as of equal sizes, and of all compressed variants for
    ``accuracy``, the highest accuracy is chosen, then the fewest stored bytes, then the first.

    Parameters
    ----------
    comparison : Comparison
    goal : "size", "latency" or "accuracy"

    Returns
    -------
    Recommendation

    Raises
    ------
    ValueError
        If the goal is another.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from pycomp.compare import Comparison, Row, Settings
    >>> from pycomp.compare.measure import Latency, Proportion, Spread
    >>> latency = Latency(seconds=Spread(1e-4, 1e-4, 1e-4), speedup=Spread(1.0, 1.0, 1.0))
    >>> teacher = Row("teacher", "baseline", "as trained", parameters=1000, dense_bytes=4000, stored_bytes=4000,
    ...               zlib_bytes=3600, accuracy=Proportion(97, 100), agreement=Proportion(100, 100),
    ...               latency={1: latency})
    >>> int8 = replace(teacher, name="int8", family="quantization", stored_bytes=1000)
    >>> comparison = Comparison(Settings(batches=(1,)), {"name": "digits"}, (teacher, int8), sweep=(), seconds=0.0)
    >>> recommend(comparison, "size").choice
    'int8'
    """
    _validate.choice(goal, "goal", GOALS)
    baseline, compressed = comparison.baseline, comparison.rows[1:]
    floor = baseline.accuracy.interval[0]
    good = [row for row in compressed if row.accuracy.value >= floor]
    batch = comparison.settings.batches[0]
    kept = (f"of the {len(good)} variants (of {len(compressed)}) that keep at least {share(floor)}, "
            f"the lower end of the teacher's 95 % interval.")
    if goal == "accuracy":
        choice = min(compressed, key=_merit)
        why = (f"Highest accuracy of the {len(compressed)} compressed variants, the fewest stored bytes where several "
               f"share it.")
    elif not good:
        choice = baseline
        why = f"No compressed variant keeps {share(floor)}, the lower end of the teacher's 95 % interval."
    elif goal == "size":
        choice = min(good, key=lambda row: (row.stored_bytes, _merit(row)))
        why = f"Fewest stored bytes {kept}"
    else:
        fastest = min(good, key=lambda row: row.latency[batch].seconds.median)
        as_fast = [row for row in good if row.latency[batch].speedup.high >= fastest.latency[batch].speedup.low]
        choice = min(as_fast, key=_merit)
        why = f"Shortest median time at batch {batch} {kept}"
        if len(as_fast) > 1:
            why = (f"Among the fastest at batch {batch} {kept} Of the {len(as_fast)} not told apart in this run (their "
                   f"quartiles overlap the fastest's), it has the highest accuracy, then the fewest stored bytes.")
    if goal == "latency" and choice is not baseline and choice.latency[batch].speedup.high < 1:
        why += " It is slower than the float teacher all the same: for speed alone, keep the teacher."
    return Recommendation(goal, choice.name, (why, accuracy_sentence(choice, baseline), size_sentence(choice, baseline),
                                              *(time_sentence(choice, b) for b in comparison.settings.batches)))


def _merit(row: Row) -> tuple[int, int]:
    """Less is better: the highest accuracy, then the fewest stored bytes."""
    return -row.accuracy.hits, row.stored_bytes


def slower(comparison: Comparison) -> tuple[str, ...]:
    """One sentence a batch size, naming what was slower than the float baseline in this run."""
    sentences = []
    for batch in comparison.settings.batches:
        behind = [row for row in comparison.rows[1:] if row.latency[batch].speedup.high < 1]
        names = ", ".join(f"{row.name} ({times(row.latency[batch].speedup.median)})" for row in behind)
        if names:
            sentences.append(f"Slower than the float teacher at batch {batch} in this run (its speed is 1x): {names}.")
    return tuple(sentences)


def unsteady(comparison: Comparison) -> tuple[str, ...]:
    """One sentence a batch size at which the baseline's own times spread so far that comparing them means little."""
    sentences = []
    for batch in comparison.settings.batches:
        seconds = comparison.baseline.latency[batch].seconds
        if seconds.high - seconds.low > UNSTEADY * seconds.median:
            sentences.append(f"The machine was busy: at batch {batch} half of the teacher's own times lie outside "
                             f"{duration(seconds.low)} to {duration(seconds.high)}, so do not trust these times.")
    return tuple(sentences)


def pareto(points: list[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, gain) that no other beats in one without losing in the other, by rising cost."""
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


def accuracy_sentence(row: Row, baseline: Row) -> str:
    low, high = row.accuracy.interval
    return (f"Accuracy {share(row.accuracy.value)} (95 % interval {share(low)} to {share(high)}) against the teacher's "
            f"{share(baseline.accuracy.value)}; the same answer as the teacher on {share(row.agreement.value)} of the "
            f"held-out images.")


def size_sentence(row: Row, baseline: Row) -> str:
    return (f"Stored in {size(row.stored_bytes)} ({size(row.zlib_bytes)} after zlib) "
            f"against {size(baseline.stored_bytes)} ({size(baseline.zlib_bytes)}): "
            f"{times(baseline.stored_bytes / row.stored_bytes)} smaller.")


def time_sentence(row: Row, batch: int) -> str:
    latency = row.latency[batch]
    if latency.speedup.high < 1:
        verdict = f"slower than the float baseline: {times(latency.speedup.median)} its speed"
    elif latency.speedup.low > 1:
        verdict = f"{times(latency.speedup.median)} as fast as the float baseline"
    else:
        verdict = f"not told apart from the float baseline in this run ({times(latency.speedup.median)})"
    return f"Batch {batch}: {duration(latency.seconds.median)} a call, {verdict}."


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def times(ratio: float) -> str:
    return f"{ratio:.3g}x" if ratio < 100 else f"{ratio:.0f}x"


def size(count: int) -> str:
    for unit in ("B", "kB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return f"{count:.3g} MB"


def duration(seconds: float) -> str:
    return f"{1e6 * seconds:.3g} µs" if seconds < 1e-3 else f"{1e3 * seconds:.3g} ms"
