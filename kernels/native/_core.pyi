"""The compiled core; cffi makes it from csrc/include/pycomp."""

from typing import Any

ffi: Any
lib: Any
