"""What matrices read, accumulated while a model runs: sums of their inputs, of squares, of products of pairs.

1. `find_sites` says which product reads which stored matrix, an expert of a stack included; `capture` hands over the rows of real tokens.
2. A convolution's rows are the patches it reads, unfolded: [examples x places, (d_in / groups) kernel], zeros of its own padding included.
3. Only sums are kept: O(d_in) a matrix, O(d_in^2) where products of pairs are asked for. Never the rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analysis.capture import find_sites
from analysis.capture.operators import tensors_in
from analysis.capture.running import hooked, modules_by_path, unwrapped

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture.site import Site
    from analysis.interventions.scope import Scope

Key = tuple[str, int]
"""A parameter's name and the matrix' index in it."""
WIDEST_GRAM = 8192
"""d_in above which X^T X is not kept: 512 MB a matrix."""
NO_ROWS = "no row of the calibration data reached it."


class InputSums:
    """Sums over the rows that one matrix read. float64."""

    def __init__(self, with_gram: bool) -> None:
        self._with_gram = with_gram
        self.n = 0
        self.total: Tensor | None = None
        """[d_in]."""
        self.square_sum: Tensor | None = None
        """[d_in]."""
        self.gram: Tensor | None = None
        """X^T X [d_in, d_in]; None unless asked for."""

    def add(self, sums: Sums) -> None:
        """Take a batch's in."""
        if self.total is None or self.square_sum is None:
            self.total, self.square_sum = sums.total.clone(), sums.square_sum.clone()
        else:
            self.total += sums.total
            self.square_sum += sums.square_sum
        if self._with_gram:
            self.gram = sums.gram().clone() if self.gram is None else self.gram.add_(sums.gram())
        self.n += sums.n


class Sums:
    """Of one batch's rows; the products of pairs are made when first asked for, and shared by all matrices that read these rows."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        values = rows.double()
        self.n, self.total, self.square_sum = len(rows), values.sum(0), (values * values).sum(0)
        self._gram: Tensor | None = None

    def gram(self) -> Tensor:
        """X^T X of the batch."""
        if self._gram is None:
            values = self.rows.double()
            self._gram = values.T @ values
        return self._gram

    def are_of(self, rows: Tensor) -> bool:
        """Whether these are the sums of rows with the very same values."""
        return self.rows.shape == rows.shape and self.rows.dtype == rows.dtype and bool((self.rows == rows).all())


class Reader:
    """Observer of a capture: adds what flows past each site to its matrices."""

    def __init__(self, matrices: Mapping[str, InputSums]) -> None:
        self._matrices = matrices
        """By site name."""
        self._last: Sums | None = None

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:  # noqa: ARG002 - the contract of observers
        """The rows that a product is about to read. Query, key and value matrices read the same ones: their sums are made once."""
        self.add(self._matrices[site.name], values)

    def add(self, matrix: InputSums, rows: Tensor) -> None:
        """The rows one matrix reads."""
        if not len(rows):
            return
        if self._last is None or not self._last.are_of(rows):
            self._last = Sums(rows.detach())
        matrix.add(self._last)

    def forget(self) -> None:
        """Let go of the last rows."""
        self._last = None


@dataclass
class Plan:
    """Where each matrix of a scope is read."""

    sums: dict[Key, InputSums] = field(default_factory=dict)
    sites: list[Site] = field(default_factory=list)
    by_site: dict[str, InputSums] = field(default_factory=dict)
    """By site name; a matrix used in several places has several."""
    by_module: dict[str, InputSums] = field(default_factory=dict)
    """Convolutions, by module path."""
    missing: dict[Key, str] = field(default_factory=dict)


def plan_reading(model: nn.Module, scope: Scope, batch: Any, with_gram: bool) -> Plan:
    """Find where the matrices of a scope are read, by running the model once on a batch."""
    plan = Plan()
    sites = _sites_by_matrix(model, batch)
    modules = modules_by_path(unwrapped(model))
    for member in scope.members:
        n_matrices, _, d_in = member.matrix_shape
        module = modules.get(member.module)
        for index in range(n_matrices):
            found = sites.get((member.parameter.data_ptr(), index), [])
            reason = _why_unread(module, found, d_in, with_gram)
            if reason is not None:
                plan.missing[member.name, index] = reason
                continue
            sums = plan.sums[member.name, index] = InputSums(with_gram)
            if _is_convolution(module):
                plan.by_module[member.module] = sums
            else:
                plan.sites += found
                plan.by_site |= {site.name: sums for site in found}
    return plan


def _sites_by_matrix(model: nn.Module, batch: Any) -> dict[tuple[int, int], list[Site]]:
    """Every place where a stored matrix is multiplied with values, by the matrix' parameter's address and its index in a stack."""
    parameters = unwrapped(model).named_parameters(remove_duplicate=False)
    address = {name.replace("_orig_mod.", ""): parameter.data_ptr() for name, parameter in parameters}
    found: dict[tuple[int, int], list[Site]] = {}
    for site in find_sites(model, batch):
        if site.role == "input" and site.weight in address:
            found.setdefault((address[site.weight], site.expert or 0), []).append(site)
    return found


def _why_unread(module: Any, sites: list[Site], d_in: int, with_gram: bool) -> str | None:
    """Why nothing can be measured of a matrix; None where it can."""
    from torch import nn

    if with_gram and d_in > WIDEST_GRAM:
        return f"it reads {d_in} features, and products of pairs are kept up to {WIDEST_GRAM}."
    if _is_convolution(module):
        if module.transposed:
            return "it is a transposed convolution, whose outputs read patches of different shapes."
        return None if module.groups == 1 else f"it is a convolution in {module.groups} groups, each of which reads other channels."
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
        return f"it lies inside one opaque call of {type(module).__name__}, where what it reads cannot be seen."
    if not sites:
        return "no matrix product was seen to read it on the first batch."
    width = next((site.width for site in sites if site.width != d_in), None)
    return None if width is None else f"it is used in parts: a product reads {width} features, and the matrix has {d_in}."


def _is_convolution(module: Any) -> bool:
    from torch import nn

    return isinstance(module, nn.modules.conv._ConvNd)


def examples_in(batch: Any) -> int:
    """Length of the first axis of a batch's first tensor."""
    return next((len(tensor) for tensor in tensors_in(batch) if tensor.ndim), 0)


@contextlib.contextmanager
def convolutions_read(model: nn.Module, matrices: Mapping[str, InputSums], reader: Reader) -> Iterator[None]:
    """While inside, what the convolutions at these module paths read is added to their sums; plain forward pre-hooks."""
    modules = modules_by_path(unwrapped(model))
    with hooked(modules[path].register_forward_pre_hook(_reads(matrix, reader)) for path, matrix in matrices.items()):
        yield


def _reads(matrix: InputSums, reader: Reader) -> Callable[..., None]:
    def hook(module: Any, args: tuple[Any, ...]) -> None:
        reader.add(matrix, patches(module, args[0]))

    return hook


def patches(module: Any, values: Tensor) -> Tensor:
    """What a convolution reads as rows [examples x places, channels x kernel], in the order of its flattened weight.

    module: a torch Conv1d, 2d or 3d with groups=1; values [examples, channels, ...] or without examples.
    """
    import torch

    spatial = len(module.kernel_size)
    values = values if values.ndim == spatial + 2 else values[None]
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    values = torch.nn.functional.pad(values, _padding(module), mode=mode)
    for axis in range(spatial):
        dilation, span = module.dilation[axis], module.dilation[axis] * (module.kernel_size[axis] - 1) + 1
        values = values.unfold(2 + axis, span, module.stride[axis])[..., ::dilation]
    # [examples, channels, places..., kernel...] -> [examples, places..., channels, kernel...]
    return values.movedim(1, 1 + spatial).flatten(1 + spatial).flatten(0, spatial)


def _padding(module: Any) -> list[int]:
    """As `torch.nn.functional.pad` takes it: last dimension first."""
    if not isinstance(module.padding, str):
        return [side for amount in reversed(module.padding) for side in (amount, amount)]
    if module.padding == "valid":
        return [0] * (2 * len(module.kernel_size))
    totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size)]
    return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
