"""The truth: float64 or exact-integer NumPy, written from the formula to be obviously right.

Every function has the signature of its kernel: inputs first, then outputs, which it fills. Beside each stand
``<name>_bound``, the allowed absolute error of each output element, and ``<name>_sample``, operands to try it on.
Where a chain of float32 operations is promised, ``<name>_chain`` is that chain, literally; it fills float32 outputs.
"""
