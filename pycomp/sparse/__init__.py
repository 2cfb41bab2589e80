"""Products with sparse matrices, with the bits that a dense product with the zeros would have.

Each output is one chain over the stored entries of a row, columns ascending: ``acc = fma(x[k], w[k], acc)`` from +0,
then the bias, the residual and the activation. It does not depend on the form in which the matrix runs, the batch, the
threads or the machine. For finite operands it is the chain of :mod:`pycomp.dense`, where a zero changes nothing but
perhaps the sign of a zero reached by underflow; that of a CodedMatrix is over its codes, then times the scale. A zero
that is not stored contributes nothing, also where x is NaN or infinite; a stored zero follows IEEE.
"""

from typing import TYPE_CHECKING

from pycomp._lazy import attributes

from .csr import CSRMatrix
from .products import linear, matmul

if TYPE_CHECKING:
    from .advice import Advice, advise
    from .bitmap import BitmapMatrix
    from .bsr import BSRMatrix
    from .coded import CodedMatrix, quantize
    from .files import load, save
    from .int8 import matmul_int8
    from .nm import NMMatrix
    from .training import linear_backward, sddmm

__all__ = [
    "Advice",
    "BSRMatrix",
    "BitmapMatrix",
    "CSRMatrix",
    "CodedMatrix",
    "NMMatrix",
    "advise",
    "linear",
    "linear_backward",
    "load",
    "matmul",
    "matmul_int8",
    "quantize",
    "save",
    "sddmm",
]

__getattr__, __dir__ = attributes(__name__, __all__, {
    "Advice": "advice", "advise": "advice", "BSRMatrix": "bsr", "BitmapMatrix": "bitmap", "CodedMatrix": "coded",
    "NMMatrix": "nm", "linear_backward": "training", "load": "files", "matmul_int8": "int8", "quantize": "coded",
    "save": "files", "sddmm": "training",
})
