"""The matrix that makes the values of a head, found by its numbers. No table of architectures.

1. Run the model once on a tiny batch and keep what every matrix inside a module with attention gives.
2. Run it again and hold the values of each head against that: the columns that are bit for bit the same are its value weights, whether
   queries, keys and values come from one matrix or three, side by side or head by head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.capture import Frame, capture, find_sites
from analysis.capture.attention import AttentionCall
from analysis.capture.attention_places import AttentionPlace
from analysis.capture.attention_session import capture_attention
from analysis.capture.running import unwrapped
from analysis.capture.site import Site
from analysis.models.placement import weight_values
from analysis.neurons.look import ROWS

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ValueWeights:
    """What makes the values of one place."""

    reader: Site
    """Where the matrix reads."""
    first: tuple[int, ...]
    """For each head of values the first of its outputs."""
    width: int
    """Numbers in a value."""

    def by_head(self, model: nn.Module, heads: int) -> Tensor:
        """W_V of each head of queries [heads, d_in, width] in float32; those that share values share it. Biases are no part of it."""
        import torch

        assert self.reader.weight is not None
        weight = weight_values(unwrapped(model), self.reader.weight)
        rows = (weight.T if self.reader.transposed else weight).float()
        parts = torch.stack([rows[first : first + self.width].T for first in self.first])
        return parts.repeat_interleave(heads // len(self.first), 0)


def value_weights(subject: Any, batch: Any, places: Sequence[AttentionPlace]) -> dict[str, ValueWeights]:
    """By the name of its site, what makes the values of each place; those are missing whose values are changed after the product."""
    modules = {p.site.module for p in places}
    readers = [s for s in find_sites(subject.model, batch, names=subject.hook_names()) if _may_make_values(s, modules)]
    frame, keeper = Frame.of(batch), _Written()
    with capture(subject.model, readers, keeper) as session:
        session.run(batch, frame)
    matcher = _Matcher(places, keeper.found)
    with capture_attention(subject.model, list({p.site.name: p.site for p in places}.values()), matcher) as session:
        session.run(batch, frame)
    return matcher.found


def _may_make_values(site: Site, modules: set[str]) -> bool:
    inside = any(not module or site.module == module or site.module.startswith(f"{module}.") for module in modules)
    return inside and site.role == "input" and site.product and site.weight is not None and site.expert is None


class _Written:
    """Keeps the first rows that every matrix gives on its first call, and which rows these are."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[Site, Tensor, Tensor | None]] = {}

    def product(self, site: Site, values: Tensor, rows: Tensor | None, output: Tensor, gate: Tensor | None, up: Tensor | None) -> None:  # noqa: ARG002
        """One product."""
        if site.name not in self.found and output.ndim == 2:
            self.found[site.name] = site, output[:ROWS].clone(), None if rows is None else rows[:ROWS].clone()


class _Matcher:
    """Holds the values of the first call of every site against what matrices gave."""

    def __init__(self, places: Sequence[AttentionPlace], written: dict[str, tuple[Site, Tensor, Tensor | None]]) -> None:
        self.found: dict[str, ValueWeights] = {}
        self._heads = {p.site.name: p.heads for p in places}
        self._written = written

    def attention(self, call: AttentionCall) -> None:
        """One call."""
        value, module = call.value, call.site.module
        if call.turn or value is None or value.ndim != 4 or self._heads.get(call.site.name, 1) % value.shape[1]:
            return
        rows = value.transpose(1, 2).flatten(0, 1)
        for reader, output, which in self._written.values():
            if not _may_make_values(reader, {module}) or output.dtype != rows.dtype:
                continue
            seen = rows[: len(output)] if which is None else rows[which] if int(which.max()) < len(rows) else rows[:0]
            first = _columns_of(seen, output) if len(seen) == len(output) else None
            if first is not None:
                self.found[call.site.name] = ValueWeights(reader, first, value.shape[-1])
                return


def _columns_of(values: Tensor, output: Tensor) -> tuple[int, ...] | None:
    """For each head of values [rows, heads, d] the first of the d columns of output [rows, columns] that are the same; None without."""
    import torch

    width = values.shape[2]
    if output.shape[1] < width or not len(output):
        return None
    strips, found = output[0].unfold(0, width, 1), []
    for head in range(values.shape[1]):
        alike = (strips == values[0, head]).all(1).nonzero().squeeze(1).tolist()
        first = next((i for i in alike if torch.equal(output[:, i : i + width], values[:, head])), None)
        if first is None:
            return None
        found.append(first)
    return tuple(found)
