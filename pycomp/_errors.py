"""Errors that are the package's own."""

__all__ = ["FormatError"]


class FormatError(ValueError):
    """A file is not what it should be: cut short, of another format, or of sizes that do not fit.

    Examples
    --------
    >>> import tempfile, pycomp
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.npz"
    ...     _ = path.write_bytes(b"PK")
    ...     try:
    ...         pycomp.sparse.load(path)
    ...     except pycomp.FormatError as error:
    ...         print(isinstance(error, ValueError))
    True
    """
