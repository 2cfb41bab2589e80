"""Softmax with temperature and the losses of knowledge distillation, accurate and with the same bits everywhere.

Passes over the logits, forward and gradient together. :func:`kd_loss` is a kernel: two passes over a row of the student
and of the teacher (terms, divergence; two or three more over the student's with labels), of which the first alone reads
memory; a thread keeps the terms of a row, up to 4 MB. So are all other losses on logits but :func:`nkd_loss` and KD in
float64: maximum, terms (not for binary KD and the MSE of logits), distance, and where the gradient needs a mean of
slopes one more over what is kept; :func:`dist_loss` works by rows, by classes, and by rows again. Those two are made of
these kernels and of NumPy: they read student and teacher once, up to 2¹⁸ logits at a time, work on these in float64,
and write the gradient once: beyond their inputs and the gradient they hold a few arrays of 2 MB.
:func:`fused_linear_kd_loss` makes the logits of some tokens at a time and holds no others.
"""

from typing import TYPE_CHECKING

from pycomp._lazy import attributes

if TYPE_CHECKING:
    from ._decoupled import dkd_loss, nkd_loss
    from ._dist_loss import dist_loss
    from ._divergences import (
        binary_kd_loss,
        forward_kl_loss,
        jsd_loss,
        logit_mse_loss,
        reverse_kl_loss,
        skew_kl_loss,
        soft_cross_entropy,
        total_variation_loss,
    )
    from ._ensemble import ensemble_kd_loss
    from ._features import attention_loss, cka_loss, contrastive_loss, hint_loss, similarity_loss
    from ._fused import fused_linear_kd_loss
    from ._loss import kd_loss
    from ._relational import relational_angle_loss, relational_distance_loss
    from ._softmax import log_softmax, logsumexp, softmax
    from ._standardized import standardized_kd_loss
    from ._top_k import top_k_kd_loss

__all__ = [
    "attention_loss",
    "binary_kd_loss",
    "cka_loss",
    "contrastive_loss",
    "dist_loss",
    "dkd_loss",
    "ensemble_kd_loss",
    "forward_kl_loss",
    "fused_linear_kd_loss",
    "hint_loss",
    "jsd_loss",
    "kd_loss",
    "log_softmax",
    "logit_mse_loss",
    "logsumexp",
    "nkd_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "reverse_kl_loss",
    "similarity_loss",
    "skew_kl_loss",
    "soft_cross_entropy",
    "softmax",
    "standardized_kd_loss",
    "top_k_kd_loss",
    "total_variation_loss",
]

__getattr__, __dir__ = attributes(__name__, __all__, {
    "attention_loss": "_features", "binary_kd_loss": "_divergences", "cka_loss": "_features",
    "contrastive_loss": "_features", "dist_loss": "_dist_loss", "dkd_loss": "_decoupled",
    "ensemble_kd_loss": "_ensemble", "forward_kl_loss": "_divergences", "fused_linear_kd_loss": "_fused",
    "hint_loss": "_features", "jsd_loss": "_divergences", "kd_loss": "_loss", "log_softmax": "_softmax",
    "logit_mse_loss": "_divergences", "logsumexp": "_softmax", "nkd_loss": "_decoupled",
    "relational_angle_loss": "_relational", "relational_distance_loss": "_relational",
    "reverse_kl_loss": "_divergences", "similarity_loss": "_features", "skew_kl_loss": "_divergences",
    "soft_cross_entropy": "_divergences", "softmax": "_softmax", "standardized_kd_loss": "_standardized",
    "top_k_kd_loss": "_top_k", "total_variation_loss": "_divergences",
})
