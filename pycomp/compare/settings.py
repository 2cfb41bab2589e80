"""Everything that can be chosen about a comparison, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pycomp._validate import choice, fraction, integer, not_negative, positive


@dataclass(frozen=True)
class Plan:
    """How one network is trained: stochastic gradient descent with momentum, the rate falling linearly to 0.

    Attributes
    ----------
    epochs : int
    rate : float
        Of the first step; above 0.
    batch : int
        Images of a step.
    momentum : float
        In [0, 1].

    Raises
    ------
    TypeError
        If one is not a number, or ``epochs`` or ``batch`` not an integer.
    ValueError
        If one is out of range.

    Examples
    --------
    >>> Plan(epochs=10, rate=0.1)
    Plan(epochs=10, rate=0.1, batch=64, momentum=0.9)
    """

    epochs: int
    rate: float
    batch: int = 64
    momentum: float = 0.9

    def __post_init__(self) -> None:
        integer(self.epochs, "epochs", 1)
        positive(self.rate, "rate")
        integer(self.batch, "batch", 1)
        fraction(self.momentum, "momentum")


@dataclass(frozen=True)
class Settings:
    """One comparison. The same settings give the same report, but for times and the build of zlib.

    Attributes
    ----------
    data : str
        The name of the data that they are for.
    seed : int
        At least 0; of initial weights and order of images.
    hidden, student : tuple of int
        Units of the hidden layers of the teacher and of the student.
    teacher_plan, tune_plan, student_plan : Plan
        Training of the teacher, fine-tuning after pruning, training of a student.
    sparsities : tuple of float
        Fractions of the hidden layers' weights removed one by one. The last layer, small and sensitive, stays dense.
    combined_sparsity : float
        The one of ``sparsities`` that is also quantized.
    removed_units : float
        Fraction of every hidden layer's units removed whole.
    temperature, alpha : float
        Of the distillation loss; alpha is the weight of the teacher's word.
    temperatures : tuple of float
        At which the student is distilled for the chart of accuracy against temperature.
    smoothing, dkd_beta, similarity : float
        Of label smoothing; of the other classes in ``dkd_loss``; weight of ``similarity_loss``.
    calibration : int
        Training images that the static quantization sees.
    train, test : int or None
        Use only the first images of each part.
    batches : tuple of int
        Batch sizes at which each network is timed. The first is that of the recommendation for latency.
    rounds : int
        Timings of each network at each batch size.

    Raises
    ------
    TypeError
        If a number is of another kind.
    ValueError
        If one is out of range, ``combined_sparsity`` is none of ``sparsities``, ``batches`` is empty, ``removed_units``
        leaves none of a hidden layer, or one but the last has another number of units than a multiple of 4: the next
        layer is pruned 2:4.

    Examples
    --------
    >>> settings = Settings(hidden=(64, 32), sparsities=(0.5, 0.9))
    >>> settings.combined_sparsity, settings.teacher_plan
    (0.9, Plan(epochs=60, rate=0.1, batch=64, momentum=0.9))
    """

    data: str = "digits"
    seed: int = 0
    hidden: tuple[int, ...] = (768, 768)
    student: tuple[int, ...] = (32,)
    teacher_plan: Plan = Plan(epochs=60, rate=0.1)
    tune_plan: Plan = Plan(epochs=30, rate=0.1)
    student_plan: Plan = Plan(epochs=100, rate=0.1)
    sparsities: tuple[float, ...] = (0.8, 0.9, 0.95, 0.98)
    combined_sparsity: float = 0.9
    removed_units: float = 0.75
    temperature: float = 4.0
    alpha: float = 0.9
    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    smoothing: float = 0.1
    dkd_beta: float = 1.0
    similarity: float = 1000.0
    calibration: int = 512
    train: int | None = None
    test: int | None = None
    batches: tuple[int, ...] = (1, 64)
    rounds: int = 60

    def __post_init__(self) -> None:
        """What a training of minutes would end on is refused before it."""
        integer(self.seed, "seed", 0)
        for name in ("hidden", "student", "batches"):
            for i, count in enumerate(getattr(self, name)):
                integer(count, f"{name}[{i}]", 1)
        for i, count in enumerate(self.hidden[:-1]):
            if count % 4:
                raise ValueError(f"hidden[{i}] is {count}, expected a multiple of 4: the next layer is pruned 2:4")
        if not self.batches:
            raise ValueError("batches is empty, expected at least one")
        for i, sparsity in enumerate(self.sparsities):
            fraction(sparsity, f"sparsities[{i}]")
        if self.combined_sparsity not in self.sparsities:
            raise ValueError(f"combined_sparsity is {self.combined_sparsity!r}, expected one of the sparsities "
                             f"{self.sparsities}")
        for name in ("removed_units", "alpha", "smoothing"):
            fraction(getattr(self, name), name)
        if self.hidden and round((1 - self.removed_units) * min(self.hidden)) < 1:
            raise ValueError(f"removed_units is {self.removed_units}, which leaves none of {min(self.hidden)}")
        for i, temperature in enumerate((self.temperature, *self.temperatures)):
            positive(temperature, f"temperatures[{i - 1}]" if i else "temperature")
        for name in ("dkd_beta", "similarity"):
            not_negative(getattr(self, name), name)
        for name in ("calibration", "rounds", "train", "test"):
            if getattr(self, name) is not None or name in ("calibration", "rounds"):
                integer(getattr(self, name), name, 1)


DEFAULTS = {
    "digits": Settings(),
    "fashion-mnist": Settings(
        data="fashion-mnist",
        hidden=(512, 512),
        student=(64,),
        teacher_plan=Plan(epochs=6, rate=0.05, batch=128),
        tune_plan=Plan(epochs=3, rate=0.05, batch=128),
        student_plan=Plan(epochs=15, rate=0.1, batch=128),
    ),
}


def settings_for(data: str, *, quick: bool = False, seed: int = 0) -> Settings:
    """The settings of ``pycomp compare``: about half a minute on two cores, a few seconds if ``quick``.

    Parameters
    ----------
    data : "digits" or "fashion-mnist"
    quick : bool
        Smaller networks and shorter training.
    seed : int
        At least 0; of initial weights and order of images.

    Raises
    ------
    TypeError, ValueError
        If there is no such data set or seed.

    Examples
    --------
    >>> settings_for("digits", quick=True).sparsities, settings_for("digits").sparsities
    ((0.9,), (0.8, 0.9, 0.95, 0.98))
    """
    chosen = replace(DEFAULTS[choice(data, "data", tuple(DEFAULTS))], seed=seed)
    if not quick:
        return chosen
    short = {"teacher_plan": 15, "tune_plan": 10, "student_plan": 30}
    if data == "fashion-mnist":
        short = {"teacher_plan": 6, "tune_plan": 3, "student_plan": 8}
        chosen = replace(chosen, train=6000, test=2000)
    plans = {name: replace(getattr(chosen, name), epochs=epochs) for name, epochs in short.items()}
    return replace(chosen, hidden=(256, 256), sparsities=(0.9,), temperatures=(1.0, 4.0, 16.0), rounds=15, **plans)
