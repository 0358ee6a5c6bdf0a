"""The compiled kernel: the same bytes as the NumPy path, by machine code."""
