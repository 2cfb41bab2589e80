"""Softmax and the distillation loss of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_models
from bench_losses import torch_gradient

from pycomp.testing import Case

Make = Callable[[Case], Callable[[], object]]


def _torch(name: str, axis: int = -1) -> Make:
    def make(case: Case) -> Callable[[], object]:
        import torch

        x, function = torch.from_numpy(case.inputs[0]), getattr(torch, name)
        return lambda: function(x, axis)

    return make


def _onnxruntime(operator: str, axis: int = -1) -> Make:
    def make(case: Case) -> Callable[[], object]:
        x = case.inputs[0]
        return onnx_models.session(operator, {"x": x}, {}, np.empty(x.shape, np.float32), axis=axis)

    return make


def _torch_kd(compiled: bool) -> Make:
    """Forward and gradient."""

    def make(case: Case) -> Callable[[], object]:
        from torch.nn import functional

        def loss(student: Any, teacher: Any) -> Any:
            log_q, p = functional.log_softmax(student / 2, -1), functional.softmax(teacher / 2, -1)
            return 4 * functional.kl_div(log_q, p, reduction="batchmean")

        return torch_gradient(loss, case.inputs[0], case.inputs[1:2], compiled)

    return make


PEERS: dict[str, dict[str, Make]] = {
    "softmax_f32": {"PyTorch": _torch("softmax"), "ONNX Runtime": _onnxruntime("Softmax")},
    "log_softmax_f32": {"PyTorch": _torch("log_softmax"), "ONNX Runtime": _onnxruntime("LogSoftmax")},
    "softmax_columns_f32": {"PyTorch": _torch("softmax", 1), "ONNX Runtime": _onnxruntime("Softmax", 1)},
    "log_softmax_columns_f32": {"PyTorch": _torch("log_softmax", 1), "ONNX Runtime": _onnxruntime("LogSoftmax", 1)},
    "logsumexp_columns_f32": {"PyTorch": _torch("logsumexp", 1)},
    "kd_loss_grad_f32": {"PyTorch": _torch_kd(False), "PyTorch, compiled": _torch_kd(True)},
}
