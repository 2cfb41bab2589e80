"""Masks made by other libraries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pycomp.testing import Case

Make = Callable[[Case], Callable[[], object]]


def numpy_partition(case: Case) -> Callable[[], object]:
    """Keeps every tie, so not the exact count."""
    scores, k = case.inputs[0], min(max(case.inputs[2], 1), case.inputs[0].size)
    return lambda: np.abs(scores) >= np.partition(np.abs(scores), scores.size - k)[scores.size - k]


def torch_topk(case: Case) -> Callable[[], object]:
    import torch

    scores, k = torch.from_numpy(case.inputs[0]), case.inputs[2]

    def run() -> object:
        mask = torch.zeros(scores.shape, dtype=torch.bool)
        mask[torch.topk(scores.abs(), k, sorted=False).indices] = True
        return mask

    return run


def numpy_argsort(case: Case) -> Callable[[], object]:
    scores, keep = case.inputs[0], case.inputs[2]

    def run() -> object:
        mask = np.zeros(scores.shape, bool)
        np.put_along_axis(mask, np.argsort(-np.abs(scores), axis=1, kind="stable")[:, :keep], True, axis=1)
        return mask

    return run


PEERS: dict[str, dict[str, Make]] = {
    "topk_mask_f32": {"NumPy partition": numpy_partition, "PyTorch topk": torch_topk},
    "nm_mask_f32": {"NumPy argsort": numpy_argsort},
}
