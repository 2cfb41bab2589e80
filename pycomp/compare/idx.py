"""IDX files, the format of MNIST and Fashion-MNIST, gzipped or not. Sizes are checked before memory is taken."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from pycomp._errors import FormatError
from pycomp._files import DEFLATED

UNSIGNED_BYTE = 0x08


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file.

    Parameters
    ----------
    path : Path
        Read as gzip if it begins as gzip does.
    ndim : int
        The number of dimensions that it must have.

    Returns
    -------
    array of uint8

    Raises
    ------
    FormatError
        If the file is not IDX, is cut short or longer than it says, or holds another type or number of dimensions.
    OSError
        If it cannot be read.
    """
    stored = path.stat().st_size
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    limit = stored * DEFLATED if zipped else stored
    try:
        with gzip.open(path, "rb") if zipped else open(path, "rb") as content:
            return _read(cast(BinaryIO, content), path, ndim, limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FormatError(f"{path}: the gzip data is damaged ({error})") from None


def _read(content: BinaryIO, path: Path, ndim: int, limit: int) -> NDArray[np.uint8]:
    head = content.read(4 + 4 * ndim)
    if head[:2] != b"\0\0" or len(head) < 4:
        raise FormatError(f"{path}: not an IDX file (begins with {head[:4].hex(' ') or 'nothing'}, expected 00 00)")
    if head[2] != UNSIGNED_BYTE or head[3] != ndim:
        raise FormatError(f"{path}: holds type 0x{head[2]:02x} in {head[3]} dimensions, "
                          f"expected unsigned bytes (0x08) in {ndim}")
    if len(head) < 4 + 4 * ndim:
        raise FormatError(f"{path}: cut short in its header")
    shape = tuple(int(size) for size in np.frombuffer(head, ">u4", ndim, 4))
    count = math.prod(shape)
    if count + len(head) > limit:
        raise FormatError(f"{path}: says it holds {' x '.join(map(str, shape))} bytes, more than the file can")
    data = content.read(count + 1)
    if len(data) != count:
        held = "more" if len(data) > count else f"only {len(data)}"
        raise FormatError(f"{path}: its sizes ({' x '.join(map(str, shape))}) ask for {count} bytes, it holds {held}")
    return np.frombuffer(data, np.uint8).reshape(shape)
