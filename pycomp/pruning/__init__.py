"""Which weights to keep: scores, masks of the best scores, and schedules of sparsity.

A mask keeps an exact number of entries: the larger score first and, among equals, the lower index in C order. So the
masks of one array are nested: more sparsity keeps a subset.
"""

from .masks import block_mask, channel_mask, magnitude, nm_mask, unstructured_mask
from .schedules import cubic, linear, one_shot

__all__ = ["block_mask", "channel_mask", "cubic", "linear", "magnitude", "nm_mask", "one_shot", "unstructured_mask"]
