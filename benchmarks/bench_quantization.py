"""int8 products and quantizers of other libraries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_models

from pycomp.testing import Case

Make = Callable[[Case], Callable[[], object]]


def weights(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """x of the case, and int8 weights [k, n] of its size."""
    sizes = case.given
    return case.inputs[0], np.random.default_rng(0).integers(-127, 128, (sizes["k"], sizes["n"]), dtype=np.int8)


def onnxruntime_integer(case: Case) -> Callable[[], object]:
    x, w = weights(case)
    return onnx_models.session("MatMulInteger", {"x": x}, {"w": w}, np.empty((x.shape[0], w.shape[1]), np.int32))


def torch_int_mm(case: Case) -> Callable[[], object]:
    import torch

    x, w = weights(case)
    xt, wt = torch.from_numpy(x.view(np.int8)), torch.from_numpy(w)
    y = torch.empty((x.shape[0], w.shape[1]), dtype=torch.int32)
    return lambda: torch._int_mm(xt, wt, out=y)


def torch_qlinear(case: Case) -> Callable[[], object]:
    import torch

    x, w = weights(case)
    xt = torch.from_numpy(x.view(np.uint8))
    packed = torch.ops.onednn.qlinear_prepack(torch.from_numpy(w.T.copy()), list(x.shape))
    scale, zero = torch.ones(w.shape[1]), torch.zeros(w.shape[1], dtype=torch.int32)
    return lambda: torch.ops.onednn.qlinear_pointwise(
        xt, 1.0, 0, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], "")


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
        return lambda: torch.ops.quantized.linear(xt, packed, 1000.0, 128)

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


def onnxruntime_quantize(case: Case) -> Callable[[], object]:
    x = case.inputs[0]
    constants = {"scale": np.float32(0.1).reshape(()), "zero": np.int8(0).reshape(())}
    return onnx_models.session("QuantizeLinear", {"x": x}, constants, np.empty(x.shape, np.int8))


TO_INT32: dict[str, Make] = {
    "ONNX Runtime MatMulInteger": onnxruntime_integer,
    "PyTorch _int_mm": torch_int_mm,
    "PyTorch oneDNN qlinear": torch_qlinear,
    "PyTorch fbgemm linear": _torch_quantized("fbgemm"),
    "PyTorch x86 linear": _torch_quantized("x86"),
    "OpenVINO int8": openvino_int8,
}
PEERS: dict[str, dict[str, Make]] = {
    "gemm_u8s8": TO_INT32,
    "gemm_s8s8": TO_INT32,
    "gemm_u8s8_f32": TO_INT32,
    "gemm_s8s8_f32": TO_INT32,
    "quantize_rows_s8": {"ONNX Runtime, scale given": onnxruntime_quantize},
}
