"""Order and comparison of float32 numbers: what selecting and masking spend their time on.

On the CPU these go through NumPy: torch writes the result of a comparison five times slower, and sorts stably on one thread without
vector instructions (measured: benchmarks/pruning.py). Elsewhere, and for types NumPy lacks, torch does the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

INFINITE = 0x7F800000
"""Key of infinity."""


def keys_of(values: Tensor) -> Tensor:
    """int32 in the order of the values, same shape: the bits of a float, negative ones turned round; -0 counts as 0."""
    import torch

    bits = (values.float() + 0.0).view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def value_of(key: int) -> float:
    """The float of a key; of a key beyond the infinities, the infinity; of -1, which none has, the number below 0."""
    key = max(-INFINITE - 1, min(-2 if key == -1 else key, INFINITE))
    bits = key ^ 0x7FFFFFFF if key < 0 else key
    return float(np.int32(bits).view(np.float32))


def stable_order(values: Tensor) -> Tensor:
    """int64 [rows, n]: the places of each row's entries from the lowest to the highest, of equals the first first. n < 2^32."""
    import torch

    if values.device.type != "cpu":
        return values.argsort(dim=-1, stable=True)
    packed = keys_of(values).numpy().astype(np.int64) << 32
    packed |= np.arange(packed.shape[-1])
    packed.sort(axis=-1)
    packed &= 0xFFFFFFFF
    return torch.from_numpy(packed)


def above(values: Tensor, limit: float, *, or_equal: bool = False) -> Tensor:
    """bool, same shape and strides: values > limit, or >=."""
    import torch

    array = as_array(values)
    if array is None:
        return values >= limit if or_equal else values > limit
    bound = array.dtype.type(limit)
    return torch.from_numpy(array >= bound if or_equal else array > bound)


def between(values: Tensor, low: float, high: float) -> Tensor:
    """The values from low to high, both included, flat, in no order to rely on."""
    import torch

    array = as_array(values)
    if array is None:
        return values[(values >= low) & (values <= high)]
    flat = array.ravel(order="K")  # as they lie in memory: no copy of a transposed matrix
    return torch.from_numpy(flat[(flat >= flat.dtype.type(low)) & (flat <= flat.dtype.type(high))])


def places_of(values: Tensor, wanted: float, n: int) -> Tensor:
    """int64 [n]: the first n flat places, in index order, of a value."""
    import torch

    array = as_array(values)
    if array is None:
        return (values == wanted).reshape(-1).nonzero()[:n, 0]
    return torch.from_numpy(np.flatnonzero(array == array.dtype.type(wanted))[:n])


def multiply(dense: Tensor, keep: Tensor, out: Tensor) -> None:
    """Write dense where kept, and a zero elsewhere; shapes are equal."""
    import torch

    arrays = as_array(dense), as_array(keep), as_array(out)
    if any(array is None for array in arrays):
        torch.mul(dense, keep, out=out)
    else:
        np.multiply(arrays[0], arrays[1], out=arrays[2])  # type: ignore[arg-type]


def count_zeros(values: Tensor) -> int:
    """Exact zeros, of either sign."""
    array = as_array(values.detach())
    if array is None:
        return values.numel() - int(values.count_nonzero())
    return values.numel() - int(np.count_nonzero(array != 0))


def as_array(values: Tensor) -> NDArray | None:
    """The same memory as an array; None on other devices, and for bfloat16."""
    import torch

    if values.device.type != "cpu" or values.dtype in (torch.bfloat16, torch.float16):  # NumPy's half precision is slow
        return None
    return values.numpy()
