"""8-bit codes: quantize, multiply exactly, run a quantized layer.

``code = saturate(rint(x / scale) + zero_point)``, ``x ≈ (code - zero_point)·scale``. Products of codes are exact
integers on every machine; the float epilogue is one fixed chain, so results do not depend on batch or threads.
:mod:`pycomp.quantization.onnx_ops` has the operators of ONNX.
"""

from .fake import fake_quantize, fake_quantize_backward
from .files import load, save
from .histogram import MSE, Entropy, Percentile
from .linear import Linear
from .observer import MinMax, MovingAverage
from .product import PackedInt8Matrix, matmul_int8, pack
from .requantization import quantize_multiplier, requantize, requantize_fixed_point
from .tensor import QuantizedTensor, dequantize, quantize, quantize_rows

__all__ = [
    "MSE",
    "Entropy",
    "Linear",
    "MinMax",
    "MovingAverage",
    "PackedInt8Matrix",
    "Percentile",
    "QuantizedTensor",
    "dequantize",
    "fake_quantize",
    "fake_quantize_backward",
    "load",
    "matmul_int8",
    "pack",
    "quantize",
    "quantize_multiplier",
    "quantize_rows",
    "requantize",
    "requantize_fixed_point",
    "save",
]
