"""Named arrays in ``.npz`` and ``.safetensors`` files. Nothing is unpickled, and a file is whole or not there."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._errors import FormatError
from ._floats import bfloat16
from ._validate import on_one_line, shown

Arrays = dict[str, NDArray[Any]]
DEFLATED = 1032
"""How many bytes deflate can make of one (RFC 1951: 258 from two bits)."""
TYPES = {"BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "I8": "int8", "I16": "int16",
         "I32": "int32", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64"}
"""Of safetensors, as NumPy calls them; BF16 takes ml_dtypes."""


def as_path(path: Any) -> Path:
    """What names a file, as an argument ``path``."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(name := os.fspath(path), str):
        raise TypeError(f"path is {shown(path)}, expected a str or os.PathLike")
    if "\0" in name:
        raise ValueError(f"path is {name!r}, expected a name without a null byte")
    return Path(name)


def write_arrays(target: Path, arrays: Arrays) -> None:
    """The arrays in a file of the format that its name says, by :func:`write_whole`."""
    arrays = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    if file_format(target) == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        content = buffer.getbuffer()
    else:
        content = memoryview(_safetensors().numpy.save(arrays))
    write_whole(target, content)


def write_whole(target: Path, content: bytes | memoryview) -> None:
    """A file beside the target that then takes its name, so an interruption leaves what was there before.

    A link stays one, to the new file; a file that was there hands on who may read and write it.
    """
    real = Path(os.path.realpath(target))
    temporary = real.with_name(f".pycomp-{os.urandom(8).hex()}")  # the target's name may be the longest there is
    try:
        with temporary.open("xb") as file:
            with contextlib.suppress(FileNotFoundError):
                temporary.chmod(stat.S_IMODE(real.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, real)
    except OSError as error:  # it names the temporary file
        raise OSError(error.errno, error.strerror, str(target)) from None
    finally:
        with contextlib.suppress(OSError):  # it has the target's name now, or was never made
            temporary.unlink()


def printable(name: str) -> str:
    """The name of an array in an error."""
    return name if name.isprintable() else repr(name)


def read_arrays(source: Path) -> Arrays:
    """The arrays of a file, or FormatError."""
    return _read_npz(source) if file_format(source) == ".npz" else _read_safetensors(source)


def file_format(path: Path) -> str:
    """``.npz`` or ``.safetensors``, as the name says."""
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"path is {str(path)!r}, expected a name that ends in .npz or .safetensors")
    return path.suffix


def _read_npz(path: Path) -> Arrays:
    """No member can be larger than the file allows: as it is, or by what deflate can make of it."""
    import zipfile  # takes milliseconds, which `import pycomp` need not
    import zlib

    arrays: Arrays = {}
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    name = member.filename.removesuffix(".npy")
                    what = f"{path}: {printable(name)}"
                    if name in arrays:
                        raise FormatError(f"{what} is there twice")
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise FormatError(f"{what} is compressed in a way that is not known")
                    most = 1 if member.compress_type == zipfile.ZIP_STORED else DEFLATED
                    if member.file_size > most * path.stat().st_size:
                        raise FormatError(f"{what} claims more bytes than the file has")
                    arrays[name] = _parse(archive.read(member), what)
        except FormatError:
            raise
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
            raise FormatError(f"{path} is not a whole .npz file ({on_one_line(error)})") from None
    return arrays


def _parse(content: bytes, what: str) -> NDArray[Any]:
    """An array from the bytes of an .npy file, its size checked before anything is made of it."""
    stream = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # NumPy reads the header as Python text: SyntaxError, TokenError, TypeError, ...
        raise FormatError(f"{what} has no header of an array ({on_one_line(error)})") from None
    if dtype.hasobject:
        raise FormatError(f"{what} claims {dtype} {shape}, but pickled objects are not read")
    size = dtype.itemsize
    for length in shape:  # Python's integers do not overflow
        size *= length
    if min(shape, default=0) < 0 or size != len(content) - stream.tell():
        raise FormatError(f"{what} claims {dtype} {shape}, which its {len(content) - stream.tell()} bytes are not")
    return _shaped(np.frombuffer(content, dtype, offset=stream.tell()), shape, "F" if fortran else "C", what)


def _shaped(flat: NDArray[Any], shape: Any, order: Literal["C", "F"], what: str) -> NDArray[Any]:
    """A copy in a shape that the file claims, in the order of bytes that this machine has."""
    try:
        array: NDArray[Any] = flat.reshape(shape, order=order).astype(flat.dtype.newbyteorder("="), order="C")
    except (TypeError, ValueError, OverflowError) as error:  # booleans, too many dimensions, 0 times too many elements
        raise FormatError(f"{what} claims shape {shown(shape)} ({on_one_line(error)})") from None
    return array


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("safetensors is not installed: pip install 'pycomp[formats]'") from None
    return safetensors


def _read_safetensors(path: Path) -> Arrays:
    safetensors = _safetensors()
    try:
        tensors = safetensors.deserialize(path.read_bytes())
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is not a whole .safetensors file ({on_one_line(error)})") from None
    arrays: Arrays = {}
    for name, tensor in tensors:
        what = f"{path}: {printable(name)}"
        if (kind := _dtype(tensor["dtype"])) is None:
            raise FormatError(f"{what} is of type {tensor['dtype']}, which is not known here")
        arrays[name] = _shaped(np.frombuffer(tensor["data"], kind), tensor["shape"], "C", what)
    return arrays


def _dtype(name: str) -> np.dtype[Any] | None:
    if name == "BF16":
        return bfloat16()
    return np.dtype(TYPES[name]) if name in TYPES else None
