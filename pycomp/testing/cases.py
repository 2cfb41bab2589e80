"""Operands to try a kernel on, made from its contract."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._runtime import threads
from pycomp._validate import shown
from pycomp.kernels import dispatch, native
from pycomp.kernels.contract import DTYPES, KERNELS, Kernel, Operand

_FUNCTIONS: dict[str, Any] = {
    "__builtins__": {},
    "ceil16": lambda n: -(-n // 16),
    "ceil48": lambda n: -(-n // 48),
    "ceil4": lambda n: -(-n // 4),
    "ceil16384": lambda n: -(-n // 16384),
}


DOUBLINGS = 8
"""After so many, every kernel has work for more threads than one."""


@dataclass(frozen=True)
class Case:
    """Operands of one call; made by :func:`make_case`. ``repr`` is the line that makes it again.

    Attributes
    ----------
    kernel : Kernel
        The entry of the contract.
    given : dict from str to int
        The sizes that were asked for.
    seed : int
        Of the operands.
    inputs : tuple
        Arrays, numbers, and None where an operand is left out, in the contract's order.

    Examples
    --------
    >>> case = make_case("softmax_f32", {"m": 2, "n": 3})
    >>> case
    make_case('softmax_f32', {'m': 2, 'n': 3}, seed=0)
    >>> [y.shape for y in case.outputs()]
    [(2, 3)]
    """

    kernel: Kernel
    given: dict[str, int]
    seed: int
    inputs: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"make_case({self.kernel.name!r}, {self.given}, seed={self.seed})"

    @property
    def sizes(self) -> dict[str, int]:
        """Every size of the contract, also those that the operands decide (a count of stored entries)."""
        found = dict(self.given)
        for operand, value in zip(self.kernel.inputs, self.inputs, strict=True):
            if operand.shape and value is not None:
                for length, symbol in zip(value.shape, operand.shape, strict=True):
                    name = symbol.removesuffix("+1")
                    if name in self.kernel.sizes:
                        found[name] = length - (name != symbol)
        return found

    def outputs(self, dtype: str | None = None, fill: float = 77) -> tuple[NDArray[Any], ...]:
        """Output arrays, filled with something that no kernel would leave there by chance; of masks half is True.

        Parameters
        ----------
        dtype : str, optional
            Of outputs of floats, by the contract's name, such as "f64". By default their own.
        fill : float
            What they are filled with.

        Returns
        -------
        tuple of arrays
        """
        sizes = self.sizes
        arrays = []
        for operand in self.kernel.outputs:
            assert operand.shape is not None
            kind = DTYPES[operand.dtype] if dtype is None or operand.dtype[0] != "f" else DTYPES[dtype]
            shape = tuple(int(eval(s, _FUNCTIONS, sizes)) for s in operand.shape)
            filled = np.full(shape, fill, kind)
            if kind == np.bool_:
                filled.reshape(-1)[::2] = False
            arrays.append(filled)
        return tuple(arrays)

    def run(self, function: Callable[..., None]) -> tuple[NDArray[Any], ...]:
        """The outputs that an implementation of the kernel fills.

        Parameters
        ----------
        function : callable
            Takes the kernel's operands in the contract's order, inputs then outputs, and fills the outputs.

        Returns
        -------
        tuple of arrays
            New ones, of the contract's dtypes.
        """
        outputs = self.outputs()
        function(*self.inputs, *outputs)
        return outputs

    def reference(self) -> tuple[NDArray[Any], ...]:
        """What the contract's reference gives, floats in float64.

        Returns
        -------
        tuple of arrays
        """
        outputs = self.outputs("f64")
        self.kernel.reference(*self.inputs, *outputs)
        return outputs

    def bound(self, reference: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
        """The allowed ``|got - reference|`` of each output.

        Parameters
        ----------
        reference : tuple of arrays
            As :meth:`reference` gives them.

        Returns
        -------
        tuple of arrays or numbers
            To be broadcast against the outputs.

        Examples
        --------
        >>> import numpy as np
        >>> from pycomp.testing import assert_within_bound
        >>> case = make_case("softmax_f32", {"m": 2, "n": 3})
        >>> (exact,) = case.reference()
        >>> (bound,) = case.bound((exact,))
        >>> assert_within_bound(exact.astype(np.float32), exact, bound) <= 1
        True
        """
        bounds = self.kernel.bound(*self.inputs, *reference)
        return bounds if isinstance(bounds, tuple) else (bounds,)

    def rows(self, rows: slice) -> Case:
        """The same call for some of its batch alone.

        Parameters
        ----------
        rows : slice
            Along the size that the contract names as the kernel's batch; it must name one.

        Returns
        -------
        Case
            Its arrays share the memory of these.

        Examples
        --------
        >>> make_case("softmax_f32", {"m": 5, "n": 3}).rows(slice(1, 3)).sizes
        {'m': 2, 'n': 3}
        """
        symbol = self.kernel.batch
        assert symbol is not None
        inputs = tuple(_take(o, v, symbol, rows) for o, v in zip(self.kernel.inputs, self.inputs, strict=True))
        count = len(range(*rows.indices(self.sizes[symbol])))
        return Case(self.kernel, {**self.given, symbol: count}, self.seed, inputs)

    def moved(self, move: Callable[[NDArray[Any]], NDArray[Any]]) -> Case:
        """The same call with every array input somewhere else in memory.

        Parameters
        ----------
        move : callable
            Takes an array and returns one of the same values, as :func:`nudged` does.

        Returns
        -------
        Case

        Examples
        --------
        >>> case = make_case("softmax_f32", {"m": 2, "n": 3}).moved(lambda a: nudged(a, 1))
        >>> case.inputs[0].ctypes.data % 64
        4
        """
        inputs = tuple(move(v) if isinstance(v, np.ndarray) else v for v in self.inputs)
        return Case(self.kernel, self.given, self.seed, inputs)


def _take(operand: Operand, value: Any, symbol: str, rows: slice) -> Any:
    if value is None or not operand.shape or symbol not in operand.shape:
        return value
    axis = operand.shape.index(symbol)
    return value[(slice(None),) * axis + (rows,)]


def nudged(a: NDArray[Any], elements: int) -> NDArray[Any]:
    """A copy of ``a`` that starts so many elements past a cache line of 64 bytes.

    Parameters
    ----------
    a : array
    elements : int
        At least 0.

    Returns
    -------
    array of the dtype and shape of ``a``, in C order

    Examples
    --------
    >>> import numpy as np
    >>> nudged(np.ones(3, np.float32), 2).ctypes.data % 64
    8
    """
    buffer = np.zeros(a.nbytes + elements * a.itemsize + 64, np.uint8)
    start = -buffer.ctypes.data % 64 + elements * a.itemsize
    moved = buffer[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    moved[...] = a
    return moved


def _entry(kernel: str | Kernel) -> Kernel:
    if isinstance(kernel, Kernel):
        return kernel
    if kernel not in KERNELS:
        raise ValueError(f"kernel is {shown(kernel)}, expected one of pycomp.info()['kernels']")
    return KERNELS[kernel]


def make_case(kernel: str | Kernel, sizes: dict[str, int], seed: int = 0) -> Case:
    """One call of a kernel: its contract's sample operands for these sizes.

    Parameters
    ----------
    kernel : str or Kernel
        A name of the contract, ``pycomp.info()["kernels"]`` lists them, or its entry.
    sizes : dict from str to int
        A number for each symbol of the entry's ``edges``.
    seed : int
        Of the operands.

    Returns
    -------
    Case

    Raises
    ------
    ValueError
        If there is no such kernel, or a size is missing.

    Examples
    --------
    >>> make_case("softmax_f32", {"m": 2, "n": 3}).inputs[0].shape
    (2, 3)
    """
    entry = _entry(kernel)
    if missing := [symbol for symbol in entry.edges if symbol not in sizes]:
        raise ValueError(f"sizes is {sizes}, expected {', '.join(missing)} too")
    return Case(entry, dict(sizes), seed, tuple(entry.sample(np.random.default_rng(seed), **sizes)))


def middle_sizes(kernel: str | Kernel) -> dict[str, int]:
    """Of each symbol the edge in the middle."""
    return {symbol: edges[len(edges) // 2] for symbol, edges in _entry(kernel).edges.items()}


def edge_sizes(kernel: str | Kernel, limit: int = 60) -> Iterator[dict[str, int]]:
    """Sizes at which the kernel may go wrong: each edge alone, then a fixed choice of ``limit`` mixtures.

    Parameters
    ----------
    kernel : str or Kernel
        As for :func:`make_case`.
    limit : int
        How many mixtures of edges.

    Yields
    ------
    dict from str to int

    Raises
    ------
    ValueError
        At the first item, if there is no such kernel.

    Examples
    --------
    >>> sizes = list(edge_sizes("softmax_f32", limit=5))
    >>> sizes[0]["m"], list(sizes[-1])
    (0, ['m', 'n'])
    """
    entry, middle = _entry(kernel), middle_sizes(kernel)
    for symbol, edges in entry.edges.items():
        yield from ({**middle, symbol: edge} for edge in edges)
    choose = random.Random(entry.name)
    for _ in range(limit):
        yield {symbol: choose.choice(edges) for symbol, edges in entry.edges.items()}


def shared_case(kernel: str | Kernel, seed: int = 0) -> Case:
    """A call with so much to do that the threads of the C core share it: the largest edges, doubled until they do."""
    entry = _entry(kernel)
    run, lib = dispatch.implementations(entry.name)["native"], native.lib
    case = make_case(entry, {symbol: max(edges) for symbol, edges in entry.edges.items()}, seed)
    lib.pc_most_threads()
    with threads(2):
        for _ in range(DOUBLINGS):
            case.run(run)
            if lib.pc_most_threads() > 1 or not lib.pc_has_openmp():
                break
            case = make_case(entry, {symbol: 2 * size for symbol, size in case.given.items()}, seed)
    return case


def cases(kernel: str | Kernel, limit: int = 60) -> Iterator[Case]:
    """A case for each of :func:`edge_sizes`, each with its own seed.

    Parameters
    ----------
    kernel : str or Kernel
        As for :func:`make_case`.
    limit : int
        As for :func:`edge_sizes`.

    Yields
    ------
    Case

    Raises
    ------
    ValueError
        At the first item, if there is no such kernel.

    Examples
    --------
    >>> [case.seed for case in cases("softmax_f32", limit=0)][:3]
    [0, 1, 2]
    """
    for seed, sizes in enumerate(edge_sizes(kernel, limit)):
        yield make_case(kernel, sizes, seed)
