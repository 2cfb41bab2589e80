"""The version, as pyproject.toml declares it; a test compares the two."""

__version__ = "0.1.0"
