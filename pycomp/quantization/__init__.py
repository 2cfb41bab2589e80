"""8-bit codes: quantize, multiply exactly, run a quantized layer.

``code = saturate(rint(x / scale) + zero_point)``, ``x ≈ (code - zero_point)·scale``. Products of codes are exact
integers on every machine; the float epilogue is one fixed chain, so results do not depend on batch or threads.
:mod:`pycomp.quantization.onnx_ops` has the operators of ONNX.
"""

from typing import TYPE_CHECKING

from pycomp._lazy import attributes

from .linear import Linear
from .product import PackedInt8Matrix, matmul_int8, pack
from .tensor import QuantizedTensor, dequantize, quantize, quantize_rows

if TYPE_CHECKING:
    from . import onnx_ops
    from .correction import InputMean, bias_correction
    from .fake import fake_quantize, fake_quantize_backward
    from .files import load, save
    from .histogram import MSE, Entropy, Percentile
    from .observer import MinMax, MovingAverage
    from .report import SCHEMES, LayerError, SensitivityReport, sensitivity
    from .requantization import quantize_multiplier, requantize, requantize_fixed_point
    from .weight_only import PackedGroupedMatrix, pack_groups

__all__ = [
    "MSE",
    "SCHEMES",
    "Entropy",
    "InputMean",
    "LayerError",
    "Linear",
    "MinMax",
    "MovingAverage",
    "PackedGroupedMatrix",
    "PackedInt8Matrix",
    "Percentile",
    "QuantizedTensor",
    "SensitivityReport",
    "bias_correction",
    "dequantize",
    "fake_quantize",
    "fake_quantize_backward",
    "load",
    "matmul_int8",
    "onnx_ops",
    "pack",
    "pack_groups",
    "quantize",
    "quantize_multiplier",
    "quantize_rows",
    "requantize",
    "requantize_fixed_point",
    "save",
    "sensitivity",
]

__getattr__, __dir__ = attributes(__name__, __all__, {
    "InputMean": "correction", "bias_correction": "correction", "LayerError": "report",
    "SCHEMES": "report", "SensitivityReport": "report", "sensitivity": "report",
    "fake_quantize": "fake", "fake_quantize_backward": "fake", "load": "files", "save": "files", "MSE": "histogram",
    "Entropy": "histogram", "Percentile": "histogram", "MinMax": "observer", "MovingAverage": "observer",
    "onnx_ops": "onnx_ops",
    "quantize_multiplier": "requantization", "requantize": "requantization", "requantize_fixed_point": "requantization",
    "PackedGroupedMatrix": "weight_only", "pack_groups": "weight_only",
})
