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


def _torch_kd(compiled: bool) -> Make:
    """Forward and gradient."""

    def make(case: Case) -> Callable[[], object]:
        import torch
        from torch.nn import functional

        def loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
            log_q, p = functional.log_softmax(student / 2, -1), functional.softmax(teacher / 2, -1)
            return 4 * functional.kl_div(log_q, p, reduction="batchmean")

        torch.compiler.reset()  # it gives up on a function after eight shapes
        run = torch.compile(loss, dynamic=False) if compiled else loss
        student, teacher = (torch.from_numpy(a.copy()) for a in case.inputs[:2])
        student.requires_grad_(True)
        return lambda: torch.autograd.grad(run(student, teacher), student)

    return make


PEERS: dict[str, dict[str, Make]] = {
    "softmax_f32": {"PyTorch": torch_softmax, "ONNX Runtime": _onnxruntime("Softmax")},
    "log_softmax_f32": {"PyTorch": torch_log_softmax, "ONNX Runtime": _onnxruntime("LogSoftmax")},
    "kd_loss_grad_f32": {"PyTorch": _torch_kd(False), "PyTorch, compiled": _torch_kd(True)},
}
