"""Errors that are the package's own."""

__all__ = ["FormatError"]


class FormatError(ValueError):
    """A file is not what it should be: cut short, of another format, or of sizes that do not fit."""
