"""A saved copy of the weights in scope, and the promise that they come back.

1. On entry every member is copied (or, with ``reread``, read again from its file whenever it is wanted), and hashed.
2. Inside, the live parameters are written in place; the module keeps its own objects.
3. On exit, also on error, every member is written back and hashed; a hash that differs raises `RestoreError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from analysis.interventions.ordering import count_zeros
from analysis.interventions.scope import Member
from analysis.interventions.spec import RestoreError
from analysis.models.fingerprints import digest, tensor_bytes
from analysis.models.placement import refuse_offloaded
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

Readers = Mapping[str, Callable[[], "Tensor"]]
"""By a member's name: its values from a file, as `TensorInfo.read` gives them."""

_HELD: set[int] = set()
"""Storages that an intervention holds now, so that a second one on the same weights is refused."""


class SavedWeights:
    """The dense values of a scope's members while the live ones are being changed."""

    def __init__(self, model: nn.Module, members: Sequence[Member], readers: Readers | None = None) -> None:
        self.model, self.members, self._readers = model, tuple(members), readers
        self._forms = {m.name: (m.parameter.shape, m.parameter.dtype) for m in self.members}
        self.digest = self.live_digest()
        self._copies = {} if readers is not None else {m.name: m.parameter.detach().clone() for m in self.members}
        if readers is not None and digest(tensor_bytes(self.dense(m)) for m in self.members) != self.digest:
            raise UserError("the weight files must hold what the model has in memory, got other values; hold a copy in memory instead.")
        self.n_zero = {m.name: count_zeros(m.parameter) for m in self.members}

    def dense(self, member: Member) -> Tensor:
        """The values the member had on entry, in its shape; not to be written to."""
        if self._readers is None:
            return self._copies[member.name]
        return self._readers[member.name]().to(member.parameter)

    def live(self, member: Member) -> Tensor:
        """The live values, to be written in place."""
        return self.model.get_parameter(member.name).detach()

    def live_digest(self) -> str:
        """Hash of what the model's members hold now, bit by bit."""
        return digest(tensor_bytes(self.live(m)) for m in self.members)

    def restore(self) -> None:
        """Write every member back. Raises `RestoreError` where a member is not what it was."""
        changed = []
        for member in self.members:
            live = self.live(member)
            if (live.shape, live.dtype) == self._forms[member.name]:
                live.copy_(self.dense(member))
            else:
                changed.append(member.name)
        if changed:
            raise RestoreError(f"a tensor must keep its shape and type while it is held, got others for {changed[0]}; open the model anew.")
        if self.live_digest() != self.digest:
            raise RestoreError("the weights must be restored bit for bit, got others; open the model anew before using it.")


@contextmanager
def saved(model: nn.Module, members: Sequence[Member], readers: Readers | None = None) -> Iterator[SavedWeights]:
    """Hold the weights of a scope; restore them on exit, also on error. One at a time on a model."""
    refuse_offloaded((m.name for m in members if m.parameter.is_meta), "a model whose weights are changed")
    storages = {m.parameter.untyped_storage().data_ptr() for m in members}
    if storages & _HELD:
        raise UserError("an intervention must be the only one on its weights, got a second one; leave the first with block before.")
    _HELD.update(storages)
    try:
        weights = SavedWeights(model, members, readers)
        try:
            yield weights
        finally:
            try:
                weights.restore()
            except KeyboardInterrupt:  # of an impatient user: half of the weights may be back
                weights.restore()
                raise
    finally:
        _HELD.difference_update(storages)
