"""Softmax and the distillation loss of other libraries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_models

from pycomp.testing import Case

Make = Callable[[Case], Callable[[], object]]


def torch_softmax(case: Case) -> Callable[[], object]:
    import torch

    x = torch.from_numpy(case.inputs[0])
    return lambda: torch.softmax(x, -1)


def torch_log_softmax(case: Case) -> Callable[[], object]:
    import torch

    x = torch.from_numpy(case.inputs[0])
    return lambda: torch.log_softmax(x, -1)


def _onnxruntime(operator: str) -> Make:
    def make(case: Case) -> Callable[[], object]:
        x = case.inputs[0]
        return onnx_models.session(operator, {"x": x}, {}, np.empty(x.shape, np.float32), axis=-1)

    return make


def torch_kd(case: Case) -> Callable[[], object]:
    """Forward and gradient, eager."""
    import torch
    from torch.nn import functional

    student, teacher = (torch.from_numpy(a.copy()) for a in case.inputs[:2])
    student.requires_grad_(True)

    def run() -> object:
        loss = 4 * functional.kl_div(functional.log_softmax(student / 2, -1), functional.softmax(teacher / 2, -1),
                                     reduction="batchmean")
        return torch.autograd.grad(loss, student)

    return run


PEERS: dict[str, dict[str, Make]] = {
    "softmax_f32": {"PyTorch": torch_softmax, "ONNX Runtime": _onnxruntime("Softmax")},
    "log_softmax_f32": {"PyTorch": torch_log_softmax, "ONNX Runtime": _onnxruntime("LogSoftmax")},
    "kd_loss_grad_f32": {"PyTorch": torch_kd},
}
