"""What the programs beside it compare results by."""

import numpy as np


def bits(outputs):
    """Of each array, any NaN being equal to any other."""
    return [np.where(y != y, np.array(1, y.dtype), y).tobytes() for y in outputs]
