"""How sparse matrices are packed for the kernels that read them: where an entry goes follows from the pattern alone.

A *tile* is some rows whose entries are interleaved: a step holds one entry of each. The rows of a tile have about as
many entries as each other, and the shorter are padded: with the value ``PAD`` at the column after the last, for which
kernels read zeros (those of codes find them in x). The product -0 changes no chain, NaN and -0 included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAD = np.float32(-0.0)
TILE, SLICE = 4, 16
"""Rows of a tile for many rows of x (spmm_tiles), and for one (spmv_sell)."""
TILES_AT_ONCE = 2
"""Tiles of a block come in so many, as kernels take them at once: their rows differ, and the last may be empty."""
LEAST_BLOCK, MOST_BLOCK = 128, 1024
"""Columns of a block: with 64 rows of x 32 KB, which L1 holds beside what streams through it, or 256 KB of L2."""
ENTRIES_A_VISIT = 20
"""Where a row has fewer entries in a block, its chains' way to the registers and back costs more than L2 does."""
MOST_ROWS, FEW_ROWS = 256, 128
"""Rows of a group, whose chains wait together; of a small matrix, so that it has groups enough for threads."""
MOST_COLUMNS = 2**16 - 1
"""So many columns, and the one that padding reads, have 16-bit indices."""
SLICES, STEPS, PLACE, WINDOW = 4, 3, 5, 31
"""Slices of a group (spmm_windows), steps of a turn, bits of a place, and columns of a window."""
GROUP = SLICES * SLICE
"""Rows of a group."""
MANY = 0.3
"""Stored part of a matrix from which the rows of a slice find enough in a window for two turns."""
ZERO = 16
"""The place of a window that holds a zero; columns from there on are a place further."""
AT_ONCE = 1 << 22
"""Elements, zeros too, that are laid out together."""

Ints = NDArray[Any]


@dataclass(frozen=True)
class Tiles:
    """Where the entries of a sparse matrix go. ``place`` is of each entry, in the order of rows and columns."""

    place: Ints
    """int64 (nnz,): position among values and columns, taken flat."""
    columns: Ints
    """uint16 (steps, height)."""
    rows: Ints
    """int32 (tiles, height): row within the group; what pads a tile is the row after the group's last, or -1."""
    starts: Ints
    """int64 (tiles + 1,): steps of a tile."""
    begins: Ints
    """int64 (groups + 1,): tiles of a group."""
    firsts: Ints
    """int64 (groups + 1,): rows of a group."""

    @property
    def read(self) -> dict[str, Ints]:
        """What kernels read beside the values, by name; those of slices, which are one group, no begins and firsts."""
        steps = {"columns": self.columns, "rows": self.rows, "starts": self.starts}
        return steps if self.columns.shape[1] == SLICE else {**steps, "begins": self.begins, "firsts": self.firsts}

    def values(self, data: NDArray[Any], pad: Any = PAD) -> NDArray[Any]:
        """Data of the entries, in their places, (steps, height) and the shape of an entry."""
        return _in_places(data, self.place, self.columns.shape, pad)


def _in_places(data: NDArray[Any], place: Ints, shape: tuple[int, ...], pad: Any) -> NDArray[Any]:
    packed = np.full((math.prod(shape), *data.shape[1:]), pad, data.dtype)
    packed[place] = data
    return packed.reshape(*shape, *data.shape[1:])


def starts_of(counts: Ints) -> Ints:
    """Where each of so many runs starts, one after the other, and the last ends: indptr from the entries of rows."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def tiles(indices: Ints, indptr: Ints, k: int) -> Tiles:
    """For products with many rows: four rows, columns by blocks, chains by groups."""
    n = len(indptr) - 1
    block = LEAST_BLOCK
    while block < min(k, MOST_BLOCK) and len(indices) * block < ENTRIES_A_VISIT * n * k:
        block *= 2
    return _interleaved(indices, indptr, k, TILE, TILES_AT_ONCE, block, MOST_ROWS if n >= 8 * MOST_ROWS else FEW_ROWS)


def slices(indices: Ints, indptr: Ints, k: int) -> Tiles:
    """For products with one row: sixteen rows, all columns; rows are the matrix's own, and padding has row -1."""
    made = _interleaved(indices, indptr, k, SLICE, 1, max(k, 1), _together(np.diff(indptr), SLICE, 256, 1.05),
                         empty=True)
    of_group = np.repeat(np.stack([made.firsts[:-1], np.diff(made.firsts)]), np.diff(made.begins), axis=1)
    first, size = of_group.astype(np.int32)[:, :, None]
    rows = np.where(made.rows < size, made.rows + first, np.int32(-1))
    return Tiles(made.place, made.columns, rows, made.starts, made.begins, made.firsts)


def _together(counts: Ints, height: int, few: int, more: float) -> int:
    """Rows that are put in order of their entries together, so that rows of about as many make up ``height``: few, so
    that two threads seldom write results in the same cache line, which takes as long as a hundred entries; but all
    where few take so much more padding."""
    n = max(len(counts), 1)
    padded = [int(counts[_by_length(counts, rows)[::height]].sum()) for rows in (few, n)]  # the largest of as many
    return few if padded[0] <= more * padded[1] else n


def _by_length(counts: Ints, together: int) -> Ints:
    """Rows by falling count, so many after so many."""
    return np.lexsort((-counts, np.arange(len(counts)) // together))


def _interleaved(
    indices: Ints, indptr: Ints, k: int, height: int, at_once: int, block: int, group: int, empty: bool = False
) -> Tiles:
    """Within each group and block, rows by falling count, ``height`` to a tile and tiles ``at_once``; rows without
    entries only if asked, where there is one block. (Memory goes with entries and rows: most rows of a large matrix are
    in few blocks.)"""
    n, nnz = len(indptr) - 1, len(indices)
    groups, blocks = -(-n // group), max(1, -(-k // block))
    # A row's visit to a block, numbered by groups and blocks. Entries come by rows, columns ascending: those of a visit
    # are a run. What is made for every entry is few and narrow: of a large matrix it is most of the time.
    row = np.arange(n)
    kind = np.int32 if groups * blocks * group < 2**31 else np.int64
    visits = (row // group * (blocks * group) + row % group).astype(kind)
    if empty:
        run, begun, lengths = visits, indptr[:-1], np.diff(indptr)
    else:
        visit = np.repeat(visits, np.diff(indptr))
        if blocks > 1:
            visit += (indices // block).astype(kind, copy=False) * kind(group)
        begun = np.concatenate([np.zeros(min(nnz, 1), np.int64), np.flatnonzero(visit[1:] != visit[:-1]) + 1])
        lengths, run = np.diff(begun, append=nnz), visit[begun]

    cell, longest = (run // group).astype(np.int64), lengths.max(initial=0)
    order = np.argsort(cell * (longest + 1) + longest - lengths, kind="stable")
    cell, length = cell[order], lengths[order]
    first = np.ones(len(cell), np.bool_)  # of its group and block
    first[1:] = cell[1:] != cell[:-1]
    begin = np.flatnonzero(first)
    counts = np.diff(begin, append=len(cell))
    rank = np.arange(len(cell)) - np.repeat(begin, counts)
    tiles_of = -(-counts // (height * at_once)) * at_once
    tile, lane = np.repeat(starts_of(tiles_of)[:-1], counts) + rank // height, rank % height
    steps = np.zeros(tiles_of.sum(), np.int64)
    steps[tile[lane == 0]] = length[lane == 0]  # the longest of a tile comes first
    starts, of_tile = starts_of(steps), np.repeat(cell[begin] // blocks, tiles_of)
    firsts = np.minimum(np.arange(groups + 1) * group, n).astype(np.int64)
    rows = np.repeat(np.diff(firsts)[of_tile, None], height, axis=1).astype(np.int32)
    rows[tile, lane] = run[order] % group

    at = np.empty(len(order), np.int64)
    at[order] = starts[tile] * height + lane
    place = np.repeat(at - begun * height, lengths)
    place += np.arange(0, nnz * height, height)
    columns = np.full(starts[-1] * height, k, np.uint16)
    columns[place] = indices
    begins = starts_of(np.bincount(of_tile, minlength=groups))
    return Tiles(place, columns.reshape(-1, height), rows, starts, begins, firsts)


@dataclass(frozen=True)
class Windows:
    """Where the entries go, as of :class:`Tiles`."""

    place: Ints
    """int64 (nnz,): position among values, taken flat."""
    places: Ints
    """uint16 (windows, SLICES, SLICE, turns): STEPS places of a lane in its window, the first in the lowest bits."""
    begins: Ints
    """int32 (windows, SLICES): the column that a window begins at."""
    rows: Ints
    """int32 (groups, SLICES, SLICE): -1 for none."""
    starts: Ints
    """int64 (groups + 1,): windows of a group."""

    @property
    def read(self) -> dict[str, Ints]:
        """What kernels read beside the values, by name."""
        return {"places": self.places, "begins": self.begins, "rows": self.rows, "starts": self.starts}

    def values(self, data: NDArray[Any], pad: Any = PAD) -> NDArray[Any]:
        """Data of the entries, in their places, (windows, SLICES, turns, STEPS, SLICE) and the shape of an entry."""
        windows, _, _, turns = self.places.shape
        return _in_places(data, self.place, (windows, SLICES, turns, STEPS, SLICE), pad)


def windows(indices: Ints, indptr: Ints, k: int) -> Windows:
    """For products with a few rows: a slice's window begins at the first column that one of its rows waits for, if x
    does not end before the window; of each row it takes as many entries as its turns have steps."""
    n, nnz = len(indptr) - 1, len(indices)
    groups, wide, turns = -(-n // GROUP), max(k, WINDOW), 1 + (nnz > MANY * n * k)
    counts = np.diff(indptr)
    order = _by_length(counts, _together(counts, GROUP, GROUP, 1.5))
    rows = np.full((groups, SLICES, SLICE), -1, np.int32)
    rows.reshape(-1)[:n] = order
    # The key of an entry is its column and `wide` for each row before: so no step asks where a row ends.
    keys = np.concatenate([np.repeat(np.arange(n) * wide, counts) + indices, [(n + 1) * wide] * (turns * STEPS)])
    at, base = np.full(rows.shape, nnz), np.full(rows.shape, n * wide)
    at.reshape(-1)[:n], base.reshape(-1)[:n] = indptr[order], order * wide
    live, made = np.arange(groups), list[tuple[Ints, ...]]()
    while True:  # a window of every group that has entries left
        begin = (keys[at] - base).min(axis=2)
        if (ended := (begin >= wide).all(axis=1)).any():
            live, at, base, begin = live[~ended], at[~ended], base[~ended], begin[~ended]
        if not len(live):
            break
        begin = np.minimum(begin, wide - WINDOW)
        limit = base + (begin[:, :, None] + WINDOW)
        count = np.zeros(at.shape, np.uint8)
        for step in range(turns * STEPS):
            count += keys[at + step] < limit
        made.append((live, begin, at, count))
        at = at + count

    if not made:
        made.append((live, np.zeros((0, SLICES), np.int64), at, np.zeros(at.shape, np.uint8)))
    group, begins, at, taking = (np.concatenate(parts) for parts in zip(*made, strict=True))
    by_group = np.argsort(group, kind="stable")
    begins, at, taking = begins[by_group], at[by_group], taking[by_group]
    place, places = np.empty(nnz, np.int64), np.zeros((*at.shape, turns), np.uint16)
    position = np.arange(at.size).reshape(at.shape)
    position += position // SLICE * (turns * STEPS - 1) * SLICE
    for step in range(turns * STEPS):
        taken = taking > step
        entry, slot = at[taken] + step, np.full(at.shape, ZERO, np.uint16)
        place[entry] = position[taken] + step * SLICE
        ahead = indices[entry] - np.broadcast_to(begins[:, :, None], at.shape)[taken]
        slot[taken] = ahead + (ahead >= ZERO)
        places[..., step // STEPS] |= slot << np.uint16(PLACE * (step % STEPS))
    starts = starts_of(np.bincount(group, minlength=groups))
    return Windows(place, places, begins.astype(np.int32), rows, starts)


def bitmap(data: NDArray[Any], indices: Ints, indptr: Ints, k: int) -> tuple[NDArray[Any], Ints, Ints]:
    """Values, bits [slices, k] and starts [slices + 1] of slices of 16 rows: within a slice by columns, then rows."""
    n, nnz = len(indptr) - 1, len(indices)
    count = -(-n // SLICE)
    values, bits = np.zeros(nnz + SLICE, data.dtype), np.zeros((count, k), np.uint16)  # whole vectors are read
    ends = indptr[np.minimum(np.arange(count + 1) * SLICE, n)]
    ends = ends - ends[0]
    rows, at_once = np.repeat(np.arange(n, dtype=np.int32), np.diff(indptr)), max(1, AT_ONCE // max(1, k * SLICE))
    first = 0
    while first < count:  # some slices together; the last alone if it has fewer rows
        whole = min(count, first + at_once, max(first + 1, n // SLICE))
        high, part = min(SLICE, n - first * SLICE), slice(ends[first], ends[whole])
        row = rows[part].astype(np.int64) - first * SLICE
        place = (row // high * k + indices[part]) * high + row % high
        stored = np.zeros(((whole - first) * k, high), np.bool_)
        dense = np.empty(stored.size, data.dtype)
        stored.reshape(-1)[place], dense[place] = True, data[part]
        values[part] = dense[stored.reshape(-1)]
        halves = np.packbits(stored, axis=1, bitorder="little").astype(np.uint16)
        found = halves[:, 0] | halves[:, 1] << 8 if high > 8 else halves[:, 0]
        bits[first:whole] = found.reshape(whole - first, k)
        first = whole
    return values, bits, ends


def nm(data: NDArray[Any], pairs: Ints) -> tuple[NDArray[Any], Ints]:
    """Values [slices, steps, 16] and places [slices, ceil(steps/2), 16] of data [n, steps] and places, two a byte."""
    n = len(data)
    count = -(-n // SLICE)
    return _turned(data, count), _turned(pairs, count)


def _turned(a: NDArray[Any], count: int) -> NDArray[Any]:
    """[n, steps] -> [count, steps, 16], zero past the last."""
    rows = np.zeros((count * SLICE, a.shape[1]), a.dtype)
    rows[: len(a)] = a
    return np.ascontiguousarray(rows.reshape(count, SLICE, a.shape[1]).transpose(0, 2, 1))


def paired(numbers: Ints) -> Ints:
    """Numbers below 16 [n, steps] as two a byte [n, ceil(steps/2)], the earlier in the low half."""
    pairs: Ints = numbers[:, ::2].copy()
    pairs[:, : numbers.shape[1] // 2] |= numbers[:, 1::2] << 4
    return pairs


def halves(pairs: Ints, steps: int) -> Ints:
    """The numbers of :func:`paired`, a byte each."""
    numbers: Ints = np.stack([pairs & 15, pairs >> 4], axis=2).reshape(len(pairs), 2 * pairs.shape[1])
    return numbers[:, :steps]


def nibbles(codes: NDArray[Any]) -> Ints:
    """Codes from -8 to 7 [..., height] as two a byte [..., height/2]: 8 lanes apart, of tiles neighbours."""
    apart = codes.shape[-1] == SLICE
    low, high = (codes[..., : SLICE // 2], codes[..., SLICE // 2 :]) if apart else (codes[..., 0::2], codes[..., 1::2])
    return np.ascontiguousarray((low.view(np.uint8) & 15) | high.view(np.uint8) << 4)
