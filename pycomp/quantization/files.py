"""Quantized tensors in files: ``.npz`` and ``.safetensors``. Nothing is unpickled, and a file is whole or not there."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pycomp._errors import FormatError

from .tensor import QuantizedTensor

Arrays = dict[str, NDArray[Any]]


def save(path: str | os.PathLike[str], q: QuantizedTensor) -> None:
    """Write a tensor as ``.npz`` or ``.safetensors``, as the name says.

    The arrays are those of :meth:`QuantizedTensor.to_dict`. They go into a file beside the target that then takes its
    name, so an interruption leaves what was there before.

    Parameters
    ----------
    path : path that ends in .npz or .safetensors
        The second needs ``pip install 'pycomp[formats]'``.
    q : QuantizedTensor

    Raises
    ------
    TypeError
        If ``q`` is something else.
    ValueError
        If the name ends otherwise.
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be written.
    """
    if not isinstance(q, QuantizedTensor):
        raise TypeError(f"q is a {type(q).__name__}, expected a QuantizedTensor")
    target = Path(path)
    arrays = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in q.to_dict().items()}
    if _format(target) == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        content = buffer.getbuffer()
    else:
        content = memoryview(_safetensors().numpy.save(arrays))
    temporary = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str]) -> QuantizedTensor:
    """Read a tensor that :func:`save` wrote.

    Raises
    ------
    pycomp.FormatError
        If the file is cut short, of another format, or holds arrays that do not make a QuantizedTensor.
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
    source = Path(path)
    arrays = _read_npz(source) if _format(source) == ".npz" else _read_safetensors(source)
    try:
        return QuantizedTensor.from_dict(arrays)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source}: {error}") from None


def _format(path: Path) -> str:
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"path is {str(path)!r}, expected a name that ends in .npz or .safetensors")
    return path.suffix


def _read_npz(path: Path) -> Arrays:
    """Members are stored as they are, so that none can be larger than the file says."""
    import zipfile  # takes milliseconds, which `import pycomp` need not

    arrays: Arrays = {}
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    name = member.filename.removesuffix(".npy")
                    if name in arrays:
                        raise FormatError(f"{path}: {name} is there twice")
                    if member.compress_type != zipfile.ZIP_STORED:
                        raise FormatError(f"{path}: {name} is compressed, expected arrays stored as they are")
                    if member.file_size > path.stat().st_size:
                        raise FormatError(f"{path}: {name} claims more bytes than the file has")
                    arrays[name] = _parse(archive.read(member), f"{path}: {name}")
        except FormatError:
            raise
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, OSError) as error:
            raise FormatError(f"{path} is not a whole .npz file ({' '.join(str(error).split())})") from None
    return arrays


def _parse(content: bytes, what: str) -> NDArray[Any]:
    """An array from the bytes of an .npy file, its size checked before anything is made of it."""
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # NumPy reads the header as Python text: SyntaxError, TokenError, TypeError, ...
        raise FormatError(f"{what} has no header of an array ({' '.join(str(error).split())})") from None
    size = dtype.itemsize
    for length in shape:  # Python's integers do not overflow
        size *= length
    if dtype.hasobject or min(shape, default=0) < 0 or size != len(content) - stream.tell():
        raise FormatError(f"{what} claims {dtype} {shape}, which its {len(content) - stream.tell()} bytes are not")
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    array: NDArray[Any] = flat.reshape(shape, order="F" if fortran else "C").copy()
    return array


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("safetensors is not installed: pip install 'pycomp[formats]'") from None
    return safetensors


def _read_safetensors(path: Path) -> Arrays:
    safetensors = _safetensors()
    content = path.read_bytes()
    try:
        return safetensors.numpy.load(content)  # type: ignore[no-any-return]
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is not a whole .safetensors file ({' '.join(str(error).split())})") from None
