"""Quantized tensors in files: ``.npz`` and ``.safetensors``. Nothing is unpickled, and a file is whole or not there."""

from __future__ import annotations

import os

from pycomp._errors import FormatError
from pycomp._files import as_path, read_arrays, write_arrays

from .tensor import QuantizedTensor


def save(path: str | os.PathLike[str], q: QuantizedTensor) -> None:
    """Write a tensor as ``.npz`` or ``.safetensors``, as the name says.

    The arrays are those of :meth:`QuantizedTensor.to_dict`. They go into a file beside the target that then takes its
    name, so an interruption leaves what was there before. A link stays one, to the new file, which takes on the
    permissions of what was there.

    Parameters
    ----------
    path : path that ends in .npz or .safetensors
        The second needs ``pip install 'pycomp[formats]'``.
    q : QuantizedTensor

    Raises
    ------
    TypeError
        If ``q`` or ``path`` is something else.
    ValueError
        If the name ends otherwise.
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pycomp.quantization import quantize
    >>> q = quantize(np.array([[-1, 0.5], [0, 4]], np.float32), axis=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/q.npz", q)
    ...     sorted(np.load(f"{folder}/q.npz"))
    ['axis', 'bits', 'data', 'scale', 'zero_point']
    """
    if not isinstance(q, QuantizedTensor):
        raise TypeError(f"q is a {type(q).__name__}, expected a QuantizedTensor")
    write_arrays(as_path(path), q.to_dict())


def load(path: str | os.PathLike[str]) -> QuantizedTensor:
    """Read a tensor that :func:`save` wrote.

    Parameters
    ----------
    path : path that ends in .npz or .safetensors
        The second needs ``pip install 'pycomp[formats]'``.

    Returns
    -------
    QuantizedTensor

    Raises
    ------
    pycomp.FormatError
        If the file is cut short, of another format, or holds arrays that do not make a QuantizedTensor.
    TypeError
        If ``path`` is no str or os.PathLike.
    ValueError
        If the name does not end in .npz or .safetensors.
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pycomp.quantization import quantize
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/q.npz", quantize(np.array([-1, 0.5], np.float32)))
    ...     load(f"{folder}/q.npz").data
    array([-127,   64], dtype=int8)
    """
    source = as_path(path)
    arrays = read_arrays(source)
    try:
        return QuantizedTensor.from_dict(arrays)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source}: {error}") from None
