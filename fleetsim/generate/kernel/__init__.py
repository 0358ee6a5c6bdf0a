"""The compiled kernel, which makes large batches, and the names of the paths to choose from."""

from typing import Literal, get_args

#: Which path makes events: the one that suits their number, plain NumPy, or the compiled kernel.
Kernel = Literal["auto", "numpy", "compiled"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)
