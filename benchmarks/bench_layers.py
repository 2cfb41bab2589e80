"""Whole quantized calls: a layer from float32 to float32, the quantization of activations included, and a product of
plain arrays of codes, in which neither is prepared ahead, or (``matmul_7_bits``) the weights are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_models

from pycomp import quantization
from pycomp.kernels.contract_dense import LINEAR_SHAPES

Make = Callable[[np.ndarray, np.ndarray], Callable[[], object]]
"""(x [m, k], w [n, k], both float32) -> a call of the layer."""


@dataclass(frozen=True)
class Layer:
    """What the benchmark needs of a kernel, for a layer."""

    name: str
    ours: Make
    peers: dict[str, Make]
    shapes: tuple[tuple[str, dict[str, int]], ...] = LINEAR_SHAPES

    @staticmethod
    def flops(m: int, k: int, n: int) -> float:
        return 2 * m * k * n

    @staticmethod
    def bytes(m: int, k: int, n: int) -> float:
        return 4 * m * k + k * n + 4 * m * n

    @staticmethod
    def operands(m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        return rng.standard_normal((m, k), np.float32), rng.standard_normal((n, k), np.float32)


@dataclass(frozen=True)
class Product(Layer):
    """The same of 8-bit codes, x [m, k] and w [k, n], to int32."""

    @staticmethod
    def bytes(m: int, k: int, n: int) -> float:
        return m * k + k * n + 4 * m * n

    @staticmethod
    def operands(m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        return rng.integers(-128, 128, (m, k), np.int8), rng.integers(-128, 128, (k, n), np.int8)


@dataclass(frozen=True)
class SevenBits(Product):
    """uint8 codes [m, k] and weights [k, n] of 7 bits: whoever saturates 16 bits is exact with these."""

    @staticmethod
    def operands(m: int, k: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (m, k), np.uint8), rng.integers(-64, 64, (k, n), np.int8)


def ours(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    layer, out = quantization.Linear(w), np.empty((len(x), len(w)), np.float32)
    return lambda: layer(x, out=out)


def torch_dynamic(engine: str) -> Make:
    """One scale for all rows of x, which is less than ours does; here as below."""

    def make(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
        import torch

        torch.backends.quantized.engine = engine
        scale = torch.from_numpy(np.abs(w).max(axis=1).astype(np.float64) / 127)
        zero = torch.zeros(len(w), dtype=torch.long)
        wt = torch.quantize_per_channel(torch.from_numpy(w), scale, zero, 0, torch.qint8)
        packed, xt = torch.ops.quantized.linear_prepack(wt, None), torch.from_numpy(x)
        return lambda: torch.ops.quantized.linear_dynamic(xt, packed)

    return make


def onnxruntime_dynamic(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """The fused operator that ONNX Runtime makes of a dynamically quantized layer."""
    scale = np.abs(w).max(axis=1) / np.float32(127)
    codes = np.rint(w / scale[:, None]).astype(np.int8).T.copy()
    return onnx_models.session("DynamicQuantizeMatMul", {"x": x}, {"w": codes, "s": scale},
                               np.empty((len(x), len(w)), np.float32), "com.microsoft")


def openvino_dynamic(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """int8 weights, activations quantized row by row, if this CPU and this version do that."""
    import openvino
    from openvino import opset13 as ops

    scale = np.abs(w).max(axis=1, keepdims=True) / np.float32(127)
    codes = np.rint(w / scale).astype(np.int8)
    weights = ops.multiply(ops.convert(ops.constant(codes), "f32"), ops.constant(scale))
    parameter = ops.parameter(list(x.shape), np.float32)
    model = openvino.Model([ops.matmul(parameter, weights, False, True)], [parameter])
    return onnx_models.openvino_request(model, x, DYNAMIC_QUANTIZATION_GROUP_SIZE=x.shape[1])


def torch_codes(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """oneDNN's product of codes, uint8 [m, k] and int8 [n, k], to float32, which takes as many bytes as int32."""
    import torch

    xt, packed = torch.from_numpy(x), torch.ops.onednn.qlinear_prepack(torch.from_numpy(w), list(x.shape))
    scale, zero = torch.ones(len(w)), torch.zeros(len(w), dtype=torch.int32)
    return lambda: torch.ops.onednn.qlinear_pointwise(
        xt, 1.0, 0, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], "")


def torch_columns(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """The same of w [k, n]."""
    return torch_codes(x, w.T.copy())


def onnxruntime_codes(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """The product of codes [m, k] and [k, n], which are known ahead."""
    return onnx_models.session("MatMulInteger", {"x": x}, {"w": w}, np.empty((len(x), w.shape[1]), np.int32))


def onnxruntime_unsigned(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """The same of weights that became unsigned, and a zero point: exact where it saturates signed ones."""
    constants = {"w": w.view(np.uint8) ^ np.uint8(128), "xz": np.zeros((), x.dtype), "wz": np.array(128, np.uint8)}
    return onnx_models.session("MatMulInteger", {"x": x}, constants, np.empty((len(x), w.shape[1]), np.int32))


def product_alone(product: Make) -> Make:
    """The product of codes that are there already: what remains of a layer that quantizes for nothing."""

    def make(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
        xq = np.random.default_rng(0).integers(0, 256, x.shape, np.uint8)
        return product(xq, np.random.default_rng(1).integers(-127, 128, w.shape[::-1], np.int8))

    return make


def matmul(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    out = np.empty((len(x), w.shape[1]), np.int32)
    return lambda: quantization.matmul_int8(x, w, out=out)


def torch_int_mm(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    import torch

    xt, wt = torch.from_numpy(x), torch.from_numpy(w)
    y = torch.empty((len(x), w.shape[1]), dtype=torch.int32)
    return lambda: torch._int_mm(xt, wt, out=y)


def onnxruntime_integer(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    return onnx_models.session("MatMulInteger", {"x": x, "w": w}, {}, np.empty((len(x), w.shape[1]), np.int32))


def packed_matmul(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    packed, out = quantization.pack(w.T), np.empty((len(x), w.shape[1]), np.int32)
    return lambda: quantization.matmul_int8(x, packed, out=out)


def numpy_float(x: np.ndarray, w: np.ndarray) -> Callable[[], object]:
    """What NumPy's users do, since its product of integers is slower still; exact below 2^24."""
    return lambda: x.astype(np.float32) @ w.astype(np.float32)


LAYERS = {
    "matmul_7_bits": SevenBits("matmul_7_bits", packed_matmul, {
        "PyTorch, oneDNN": torch_columns,
        "ONNX Runtime MatMulInteger": onnxruntime_codes,
    }),
    "matmul_int8": Product("matmul_int8", matmul, {
        "PyTorch _int_mm": torch_int_mm,
        "ONNX Runtime MatMulInteger": onnxruntime_integer,
        "NumPy in float32 (OpenBLAS)": numpy_float,
    }),
    "linear_int8_dynamic": Layer("linear_int8_dynamic", ours, {
        "PyTorch fbgemm dynamic": torch_dynamic("fbgemm"),
        "PyTorch x86 dynamic": torch_dynamic("x86"),
        "ONNX Runtime dynamic": onnxruntime_dynamic,
        "OpenVINO dynamic": openvino_dynamic,
        "oneDNN, product alone": product_alone(torch_columns),
        "ONNX Runtime, product alone": product_alone(onnxruntime_codes),
        "the same, uint8 weights": product_alone(onnxruntime_unsigned),
    }),
}
