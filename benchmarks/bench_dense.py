"""Dense float32 products: what a user would call instead, weights prepared ahead wherever the peer allows it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_models

from pycomp.kernels.reference.dense import unpack
from pycomp.testing import Case

Make = Callable[[Case], Callable[[], object]]


def operands(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """x [m, k] and w [k, n]."""
    x, w = case.inputs[:2]
    return x, np.ascontiguousarray(unpack(w, case.given["n"]))


def numpy(case: Case) -> Callable[[], object]:
    x, w = operands(case)
    y = np.empty((x.shape[0], w.shape[1]), np.float32)
    return lambda: np.matmul(x, w, out=y)


def torch_linear(case: Case) -> Callable[[], object]:
    import torch

    x, w = operands(case)
    xt, wt = torch.from_numpy(x), torch.from_numpy(w.T.copy())
    return lambda: torch.nn.functional.linear(xt, wt)


def torch_packed(case: Case) -> Callable[[], object]:
    import torch

    x, w = operands(case)
    xt = torch.from_numpy(x)
    packed = torch.ops.mkldnn._reorder_linear_weight(torch.from_numpy(w.T.copy()), x.shape[0])
    return lambda: torch.ops.mkldnn._linear_pointwise(xt, packed, None, "none", [], "")


def onnxruntime(case: Case) -> Callable[[], object]:
    x, w = operands(case)
    return onnx_models.session("MatMul", {"x": x}, {"w": w}, np.empty((x.shape[0], w.shape[1]), np.float32))


def openvino(case: Case) -> Callable[[], object]:
    import openvino
    from openvino import opset13 as ops

    x, w = operands(case)
    parameter = ops.parameter(list(x.shape), np.float32)
    product = ops.matmul(parameter, ops.constant(w.T.copy()), False, True)
    return onnx_models.openvino_request(openvino.Model([product], [parameter]), x)


def torch_activation(case: Case) -> Callable[[], object]:
    import torch
    from torch.nn import functional

    x, code = torch.from_numpy(case.inputs[0]), case.inputs[1]
    function = (torch.clone, torch.relu, functional.gelu, lambda v: functional.gelu(v, approximate="tanh"),
                functional.silu)[code]
    return lambda: function(x)


def onnxruntime_activation(case: Case) -> Callable[[], object]:
    x, code = case.inputs
    operator = ("Identity", "Relu", "Gelu", "Gelu", "QuickGelu")[code]
    attributes: dict[str, object] = {"approximate": "tanh"} if code == 3 else {"alpha": 1.0} if code == 4 else {}
    return onnx_models.session(operator, {"x": x}, {}, np.empty_like(x), "com.microsoft" if code == 4 else "",
                               **attributes)


PEERS: dict[str, dict[str, Make]] = {
    "activate_f32": {"PyTorch": torch_activation, "ONNX Runtime": onnxruntime_activation},
    "gemm_f32": {
        "NumPy (OpenBLAS)": numpy,
        "PyTorch linear": torch_linear,
        "PyTorch oneDNN packed": torch_packed,
        "ONNX Runtime": onnxruntime,
        "OpenVINO": openvino,
    },
}
