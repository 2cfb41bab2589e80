"""Softmax with temperature and the knowledge-distillation loss, accurate and with the same bits everywhere."""

from ._loss import kd_loss
from ._softmax import log_softmax, softmax

__all__ = ["kd_loss", "log_softmax", "softmax"]
