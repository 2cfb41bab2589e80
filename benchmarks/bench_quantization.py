"""int8 products and quantizers of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import bench_layers
import numpy as np
import onnx_models

from pycomp.testing import Case

Make = Callable[[Case], Callable[[], object]]


def weights(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """x of the case, and int8 weights [k, n] of its size."""
    sizes = case.given
    return case.inputs[0], np.random.default_rng(0).integers(-127, 128, (sizes["k"], sizes["n"]), dtype=np.int8)


def sums(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) @ w.astype(np.float64)  # exact below 2^53


def saturation(case: Case, result: object) -> str:
    """How wrong a peer's product is, if it is: some add two products of bytes in 16 bits, where they saturate. (Those
    that return codes may be half a step off.)"""
    x, w = weights(case)
    if isinstance(result, Mapping):  # OpenVINO
        (result,) = result.values()
    if getattr(result, "is_quantized", False):  # PyTorch
        result = result.dequantize()  # type: ignore[attr-defined]
    wrong = 1.0
    for codes in (x.view(np.uint8), x.view(np.int8)):  # peers read x as what they can
        exact = sums(codes, w)
        wrong = min(wrong, float(np.abs(np.asarray(result) - exact).max() / np.abs(exact).max()))
    return f"wrong by {100 * wrong:.0f} %" if wrong > 0.005 else ""


def onnxruntime_integer(case: Case) -> Callable[[], object]:
    return bench_layers.onnxruntime_codes(*weights(case))


def onnxruntime_unsigned(case: Case) -> Callable[[], object]:
    return bench_layers.onnxruntime_unsigned(*weights(case))


def torch_int_mm(case: Case) -> Callable[[], object]:
    x, w = weights(case)
    return bench_layers.torch_int_mm(x.view(np.int8), w)


def torch_qlinear(case: Case) -> Callable[[], object]:
    x, w = weights(case)
    return bench_layers.torch_columns(x.view(np.uint8), w)


def _torch_quantized(engine: str) -> Make:
    def make(case: Case) -> Callable[[], object]:
        import torch

        torch.backends.quantized.engine = engine
        x, w = weights(case)
        xt = torch.quantize_per_tensor(torch.from_numpy(x.view(np.uint8).astype(np.float32)), 1.0, 0, torch.quint8)
        wt = torch.quantize_per_channel(
            torch.from_numpy(w.T.astype(np.float32)), torch.ones(w.shape[1], dtype=torch.double),
            torch.zeros(w.shape[1], dtype=torch.long), 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(wt, None)
        step = float(np.abs(sums(x.view(np.uint8), w)).max()) / 127
        return lambda: torch.ops.quantized.linear(xt, packed, step, 128)

    return make


def openvino_int8(case: Case) -> Callable[[], object]:
    import openvino
    from openvino import opset13 as ops

    x, w = weights(case)
    low, high = np.float32(0), np.float32(255)
    parameter = ops.parameter(list(x.shape), np.float32)
    quantized = ops.fake_quantize(parameter, low, high, low, high, 256)
    scale = ops.constant(np.ones((w.shape[1], 1), np.float32))
    scaled = ops.multiply(ops.convert(ops.constant(w.T.copy()), "f32"), scale)
    model = openvino.Model([ops.matmul(quantized, scaled, False, True)], [parameter])
    return onnx_models.openvino_request(model, x.view(np.uint8).astype(np.float32))


def grouped(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, int8 weights [n, k] and scales [n, groups] of the case's size."""
    sizes, rng = case.given, np.random.default_rng(0)
    codes = rng.integers(-127, 128, (sizes["n"], sizes["k"]), dtype=np.int8)
    return case.inputs[0], codes, rng.uniform(0.001, 0.01, (sizes["n"], sizes["groups"])).astype(np.float32)


def torch_weight_only(case: Case) -> Callable[[], object]:
    """One scale an output, which is less than the kernel does."""
    import torch

    x, codes, scale = grouped(case)
    xt, wt, st = torch.from_numpy(x), torch.from_numpy(codes), torch.from_numpy(scale[:, 0].copy())
    return lambda: torch._weight_int8pack_mm(xt, wt, st)


def onnxruntime_nbits(case: Case) -> Callable[[], object]:
    """8-bit weights at the accuracy that keeps activations float32."""
    x, codes, scale = grouped(case)
    n, groups = scale.shape
    k = codes.shape[1]
    packed = (codes.view(np.uint8) ^ np.uint8(128)).reshape(n, groups, k // groups)
    return onnx_models.session("MatMulNBits", {"x": x}, {"w": packed, "s": scale.reshape(-1)},
                               np.empty((x.shape[0], n), np.float32), "com.microsoft", K=k, N=n, bits=8,
                               block_size=k // groups, accuracy_level=1)


def openvino_weight_only(case: Case) -> Callable[[], object]:
    """Without its own quantization of the activations."""
    import openvino
    from openvino import opset13 as ops

    x, codes, scale = grouped(case)
    n, groups = scale.shape
    parts = ops.convert(ops.constant(codes.reshape(n, groups, -1)), "f32")
    weights = ops.reshape(ops.multiply(parts, ops.constant(scale[:, :, None])), ops.constant(list(codes.shape)), False)
    parameter = ops.parameter(list(x.shape), np.float32)
    model = openvino.Model([ops.matmul(parameter, weights, False, True)], [parameter])
    return onnx_models.openvino_request(model, x, DYNAMIC_QUANTIZATION_GROUP_SIZE=0)


def _zero(codes: np.ndarray) -> np.ndarray:
    return np.zeros((), codes.dtype)


def onnxruntime_quantize(case: Case) -> Callable[[], object]:
    """One scale for the tensor, given: what pycomp's kernels do besides is choosing scales, of rows or groups."""
    x, codes = case.inputs[0], case.outputs()[0]
    return onnx_models.session("QuantizeLinear", {"x": x}, {"s": np.float32(0.1).reshape(()), "z": _zero(codes)}, codes)


def onnxruntime_quantize_axis(axis: int) -> Make:
    def make(case: Case) -> Callable[[], object]:
        x, codes = case.inputs[0], case.outputs()[0]
        scales = np.full(x.shape[axis], 0.1, np.float32)
        constants = {"s": scales, "z": np.zeros(scales.shape, codes.dtype)}
        return onnx_models.session("QuantizeLinear", {"x": x}, constants, codes, axis=axis)

    return make


def onnxruntime_dequantize(case: Case) -> Callable[[], object]:
    codes, y = case.inputs[0], case.outputs()[0]
    constants = {"s": np.float32(0.1).reshape(()), "z": _zero(codes)}
    return onnx_models.session("DequantizeLinear", {"x": codes}, constants, y)


def _torch_code(case: Case) -> object:
    import torch

    return torch.quint8 if case.outputs()[0].dtype == np.uint8 else torch.qint8


def torch_quantize(case: Case) -> Callable[[], object]:
    import torch

    x, kind = torch.from_numpy(case.inputs[0]), _torch_code(case)
    return lambda: torch.quantize_per_tensor(x, 0.1, 0, kind)


def torch_quantize_axis(axis: int) -> Make:
    def make(case: Case) -> Callable[[], object]:
        import torch

        x, kind = torch.from_numpy(case.inputs[0]), _torch_code(case)
        scale = torch.full((x.shape[axis],), 0.1, dtype=torch.double)
        zero = torch.zeros(x.shape[axis], dtype=torch.long)
        return lambda: torch.quantize_per_channel(x, scale, zero, axis, kind)

    return make


def torch_dequantize(case: Case) -> Callable[[], object]:
    import torch

    return torch._make_per_tensor_quantized_tensor(torch.from_numpy(case.inputs[0]), 0.1, 0).dequantize


def torch_fake_quantize(axis: int) -> Make:
    def make(case: Case) -> Callable[[], object]:
        import torch

        x = torch.from_numpy(case.inputs[0])
        scale, zero = torch.full((x.shape[axis],), 0.1), torch.zeros(x.shape[axis], dtype=torch.int32)
        return lambda: torch.fake_quantize_per_channel_affine(x, scale, zero, axis, -128, 127)

    return make


def torch_fake_quantize_one(case: Case) -> Callable[[], object]:
    import torch

    x = torch.from_numpy(case.inputs[0])
    return lambda: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127)


def torch_learnable(case: Case) -> Callable[[], object]:
    """Gradients by x, scales and zero points of rows."""
    import torch

    grad, x = (torch.from_numpy(a) for a in case.inputs[:2])
    scale, zero = torch.full((x.shape[0],), 0.1), torch.zeros(x.shape[0])
    operands = [a.requires_grad_() for a in (x, scale, zero)]
    y = torch._fake_quantize_learnable_per_channel_affine(*operands, 0, -128, 127, 1.0)
    return lambda: torch.autograd.grad(y, operands, grad, retain_graph=True)


def torch_aminmax(axis: int | None = None) -> Make:
    def make(case: Case) -> Callable[[], object]:
        import torch

        x = torch.from_numpy(case.inputs[0])
        return lambda: torch.aminmax(x, dim=axis)

    return make


TO_INT32: dict[str, Make] = {
    "ONNX Runtime MatMulInteger": onnxruntime_integer,
    "the same, uint8 weights": onnxruntime_unsigned,
    "PyTorch _int_mm": torch_int_mm,
    "PyTorch oneDNN qlinear": torch_qlinear,
    "PyTorch fbgemm linear": _torch_quantized("fbgemm"),
    "PyTorch x86 linear": _torch_quantized("x86"),
    "OpenVINO int8": openvino_int8,
}
ROWS: dict[str, Make] = {
    "ONNX Runtime, scale given": onnxruntime_quantize,
    "PyTorch, scales given": torch_quantize_axis(0),
}
GIVEN: dict[str, Make] = {
    "ONNX Runtime, one scale": onnxruntime_quantize,
    "ONNX Runtime, a scale a row": onnxruntime_quantize_axis(0),
    "PyTorch, one scale": torch_quantize,
    "PyTorch, a scale a row": torch_quantize_axis(0),
}
COLUMNS: dict[str, Make] = {
    "ONNX Runtime, column scales": onnxruntime_quantize_axis(1),
    "PyTorch, column scales": torch_quantize_axis(1),
}
BACK: dict[str, Make] = {"ONNX Runtime, one scale": onnxruntime_dequantize, "PyTorch, one scale": torch_dequantize}
PEERS: dict[str, dict[str, Make]] = {
    "gemm_u8s8": TO_INT32,
    "gemm_s8s8": TO_INT32,
    "gemm_u8s8_f32": TO_INT32,
    "gemm_s8s8_f32": TO_INT32,
    "gemm_f32s8": {
        "PyTorch, a scale an output": torch_weight_only,
        "ONNX Runtime MatMulNBits": onnxruntime_nbits,
        "OpenVINO": openvino_weight_only,
    },
    "range_f32": {"PyTorch aminmax": torch_aminmax()},
    "range_columns_f32": {"PyTorch aminmax": torch_aminmax(0)},
    "quantize_rows_s8": ROWS,
    "quantize_rows_u8": ROWS,
    "quantize_s8": GIVEN,
    "quantize_u8": GIVEN,
    "quantize_columns_s8": COLUMNS,
    "quantize_columns_u8": COLUMNS,
    "fake_quantize_f32": {
        "PyTorch, one scale": torch_fake_quantize_one,
        "PyTorch, a scale a row": torch_fake_quantize(0),
    },
    "fake_quantize_columns_f32": {"PyTorch, column scales": torch_fake_quantize(1)},
    "fake_quantize_backward_f32": {"PyTorch, learnable scales": torch_learnable},
    "dequantize_s8": BACK,
    "dequantize_u8": BACK,
    "dequantize_columns_s8": BACK,
    "dequantize_columns_u8": BACK,
}
REMARKS: dict[str, Callable[[Case, object], str]] = {
    kernel: saturation for kernel, peers in PEERS.items() if peers is TO_INT32}
"""Of a kernel's peers: what is to be said of the results of one."""
