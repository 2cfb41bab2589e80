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


PEERS: dict[str, dict[str, Make]] = {
    "gemm_f32": {
        "NumPy (OpenBLAS)": numpy,
        "PyTorch linear": torch_linear,
        "PyTorch oneDNN packed": torch_packed,
        "ONNX Runtime": onnxruntime,
        "OpenVINO": openvino,
    },
}
