"""Products with sparse float32 matrices, with the bits that a dense product with the zeros would have.

Each output is one chain over the stored entries of a row, columns ascending: ``acc = fma(x[k], w[k], acc)`` from +0,
then the bias, then the activation. It does not depend on the batch, the threads or the machine. For finite operands it
is the chain of :mod:`pycomp.dense`, where a zero changes nothing but perhaps the sign of a zero reached by underflow. A
zero that is not stored contributes nothing, also where x is NaN or infinite; a stored zero follows IEEE.
"""

from typing import TYPE_CHECKING

from pycomp._lazy import attributes

from .csr import CSRMatrix
from .products import linear, matmul

if TYPE_CHECKING:
    from .files import load, save

__all__ = ["CSRMatrix", "linear", "load", "matmul", "save"]

__getattr__ = attributes(__name__, {"load": "files", "save": "files"})
