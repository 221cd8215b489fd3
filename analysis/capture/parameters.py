"""Which stored matrix a tensor is, or is a slice of: told by the storage it shares, so transposes and slices are known too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Stored:
    """A parameter, or the matrix at ``index`` of a 3-D stack of them."""

    name: str
    index: int | None
    parameter: Tensor


class Parameters:
    """The parameters and buffers of a model by the storage they lie in."""

    def __init__(self, model: nn.Module) -> None:
        self._by_storage: dict[int, list[tuple[str, Tensor]]] = {}
        self._offloaded: list[tuple[str, nn.Module, str]] = []
        """Name, owner and name there of what has a storage only while its owner runs (`analysis.models.placement`)."""
        self.names: set[str] = set()
        for group in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
            for raw, tensor in group:
                name = raw.replace("_orig_mod.", "")
                self.names.add(name)
                owner = model.get_submodule(raw.rpartition(".")[0]) if tensor.is_meta else None
                if owner is not None and hasattr(owner, "_hf_hook"):
                    self._offloaded.append((name, owner, raw.rpartition(".")[2]))
                    continue
                self._by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append((name, tensor))

    def is_stored(self, value: Any) -> bool:
        """Whether the operand shares storage with a parameter or buffer (and so does not depend on the input)."""
        import torch

        return isinstance(value, torch.Tensor) and value.ndim >= 2 and self.find(value, "") is not None

    def find(self, tensor: Tensor, module: str) -> Stored | None:
        """The parameter ``tensor`` shows; of tied ones the one that lies in ``module``."""
        offset = tensor.storage_offset()
        found = [
            (name, p)
            for name, p in self._lying_at(tensor.untyped_storage().data_ptr())
            if p.numel() and p.storage_offset() <= offset < p.storage_offset() + p.numel() and p.dtype == tensor.dtype
        ]
        if not found:
            return None
        name, p = next((pair for pair in found if module and pair[0].startswith(f"{module}.")), found[0])
        sliced = p.ndim == 3 and tensor.ndim == 2
        return Stored(name, (offset - p.storage_offset()) // p.stride(0) if sliced else None, p)

    def _lying_at(self, storage: int) -> list[tuple[str, Tensor]]:
        """What lies in a storage now."""
        if storage in self._by_storage or not self._offloaded:
            return self._by_storage.get(storage, [])
        now = ((name, owner._parameters.get(leaf)) for name, owner, leaf in self._offloaded)
        return [(name, p) for name, p in now if p is not None and not p.is_meta and p.untyped_storage().data_ptr() == storage]


def reads_rows_of(weight: Tensor, in_dim: int, parameter: Tensor) -> bool:
    """Whether the stored matrix is [in, out]: the dimension summed over is its second last, not its last.

    The operand may be a transposed view; dimensions are matched by their strides, which a view carries over.
    """
    if weight.ndim < 2 or parameter.ndim < 2 or parameter.ndim > 3 or parameter.stride(-1) == parameter.stride(-2):
        return in_dim == -2
    return weight.stride(in_dim) == parameter.stride(-2)
