"""The table of all kernels, joined from those of the families. All else is checked against it or made from it.

An implementation of a kernel, on any backend, is a function of an entry's operands in this order: inputs and scalars,
then outputs, which it fills. Sizes are read off the operands' shapes. The C function takes the sizes first and, where
an operand has explicit strides, these after its pointer; a test compares the two.
"""

from __future__ import annotations

from .contract_convert import ENTRIES as CONVERT
from .contract_dense import ENTRIES as DENSE
from .contract_distillation import ENTRIES as DISTILLATION
from .contract_pruning import ENTRIES as PRUNING
from .contract_quantization import ENTRIES as QUANTIZATION
from .contract_sparse import ENTRIES as SPARSE
from .entry import DTYPES, Kernel, Operand

__all__ = ["DTYPES", "KERNELS", "Kernel", "Operand"]

KERNELS: dict[str, Kernel] = {
    kernel.name: kernel for kernel in (*DENSE, *CONVERT, *SPARSE, *PRUNING, *QUANTIZATION, *DISTILLATION)
}
