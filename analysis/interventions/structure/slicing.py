"""SliceGPT: the residual stream in front of every block keeps its leading principal directions only.

1. Of each block the second moments of what it reads: the stream in front of it, and behind its attention; not centred, float64, padding
   left out. Where norms subtract the mean over the width, so is it here, which changes nothing of the dense model.
2. At level s the stream x in front of block l becomes x P_l, P_l the projection on its first d - floor(s d) directions; what its attention
   adds is projected on the same; the stream behind the last block on directions of its own.
3. Then every matrix of a block that reads or writes the stream is a slice of a rotated one (RMSNorm(x Q) = RMSNorm(x) Q): d_kept / d of its
   products, and one matrix d_kept x d_kept between blocks.

Published: two bases a block (one in front of attention, one in front of the FFN), rounded to multiples of 8; here one. Embedding and head
shrink, too, which the cost does not count. Source: METHODS A15.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.base import Seen, Setting, example_of
from analysis.interventions.activations.observing import observe
from analysis.interventions.spec import Applied, Cost, Held, Shares, check_level
from analysis.interventions.structure.finding import block_around
from analysis.interventions.structure.named import NamedMethod
from analysis.interventions.structure.rank import principal, removed_energy
from analysis.interventions.structures import removed_of
from analysis.spec import IncompatibleSubject, Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

SLICEGPT = Source(
    "SliceGPT: Compress Large Language Models by Deleting Rows and Columns", "Ashkboos et al., ICLR 2024, arXiv 2401.15024", "C"
)


@dataclass(frozen=True)
class SlicedDimensions(NamedMethod):
    """Leading principal directions of the stream."""

    name = "stream-dimensions"
    words = "Leading principal directions of the residual stream"
    origin = (SLICEGPT,)

    @contextmanager
    def on(self, subject: Any, calibration: Any = None) -> Iterator[Held]:
        """Hold the model."""
        from analysis.capture.calling import observing_calls
        from analysis.capture.running import unwrapped

        model = unwrapped(subject.model)
        example = example_of(subject, calibration)
        stream = stream_in(model, example)
        setting = Setting(model, list(stream.places), calibration, example)
        bases, rows = setting.once(("stream directions", stream.n), lambda: _bases(setting, stream))
        held = HeldSlices(self, model, stream, bases, rows)
        with observing_calls(model, setting.sites, held):
            yield held


@dataclass(frozen=True)
class Stream:
    """The places of one residual stream."""

    places: Mapping[Site, int]
    """By site: the number of the basis it is projected on; that in front of block l is l, that behind the last one is last."""
    attention: frozenset[Site]
    """Those that are what attention adds."""
    blocks: tuple[str, ...]
    width: int
    centred: bool
    """Whether its norms subtract the mean."""

    @property
    def n(self) -> int:
        """Bases."""
        return len(self.blocks) + 1


def stream_in(model: nn.Module, example: Any) -> Stream:
    """Raises `IncompatibleSubject` where there is not exactly one stream, or where norms lie on it, which a rotation does not pass."""
    from torch import nn as torch_nn

    from analysis.latents.places import places

    found = places(model, example)
    residual = [place for place in found if place.kind == "residual"]
    first = [place for place in residual if place.site.role == "input"]
    behind = [place for place in residual if place.site.role == "output"]
    if len(first) != 1 or not behind or len({place.width for place in residual}) != 1:
        raise IncompatibleSubject("stream-dimensions must be given a model with one residual stream, got none or several; choose another.")
    blocks = tuple(place.module for place in behind)
    _check_norms(model, example, blocks)
    numbers = {block: i for i, block in enumerate(blocks)}
    attention = {p.site: numbers[b] for p in found if p.kind == "attention_out" and (b := block_around(model, p.module)) in numbers}
    spots = {first[0].site: 0, **{place.site: i + 1 for i, place in enumerate(behind)}, **attention}
    centred = any(isinstance(module, torch_nn.LayerNorm) for block in blocks for module in model.get_submodule(block).modules())
    return Stream(spots, frozenset(attention), blocks, first[0].width, centred)


def _check_norms(model: nn.Module, example: Any, blocks: Sequence[str]) -> None:
    """No block may give back what one of its norms made."""
    from analysis.capture.running import hooked, observable, run

    norms: dict[str, set[int]] = {block: set() for block in blocks}
    kept: list[Any] = []  # so that no address is used twice
    on_stream: list[str] = []

    def norm(block: str) -> Any:
        def look(_: Any, __: Any, output: Any) -> None:
            kept.append(output)
            norms[block].add(id(output))

        return look

    def whole(block: str) -> Any:
        def look(_: Any, __: Any, output: Any) -> None:
            made = output[0] if isinstance(output, tuple) else output
            if id(made) in norms[block]:
                on_stream.append(block)

        return look

    handles = []
    for block in blocks:
        inside = model.get_submodule(block)
        parts = [part for part in inside.modules() if "norm" in type(part).__name__.lower()]
        handles += [part.register_forward_hook(norm(block)) for part in parts] + [inside.register_forward_hook(whole(block))]
    with hooked(handles), observable(model):
        run(model, example)
    if on_stream:
        raise IncompatibleSubject(
            f"stream-dimensions must be given a model with norms beside its stream, got one on it in {on_stream[0]}; choose another."
        )


def _bases(setting: Setting, stream: Stream) -> tuple[list[tuple[Tensor, Tensor]], float]:
    """Step 1; and the rows of one example."""
    import torch

    moments = [torch.zeros(stream.width, stream.width, dtype=torch.float64) for _ in range(stream.n)]
    before: dict[int, Tensor] = {}
    rows: list[float] = []

    def look(seen: Seen) -> None:
        place = stream.places[seen.site]
        rows.append(len(seen.values) / seen.examples)
        if seen.site in stream.attention:
            x = before[place] + seen.values.double()
        else:
            x = before[place] = seen.values.double()
        x = x - x.mean(1, keepdim=True) if stream.centred else x
        moments[place].add_((x.T @ x).cpu())

    observe(setting, look)
    return [principal(moment) for moment in moments], max(rows, default=1.0)


class HeldSlices(Held):
    """A model whose stream is held to a subspace; also the observer of its passes."""

    def __init__(self, method: SlicedDimensions, model: nn.Module, stream: Stream, bases: list[tuple[Tensor, Tensor]], rows: float) -> None:
        from analysis.interventions.scope import weight_scope

        self.stream, self.bases, self.kept, self._rows = stream, bases, stream.width, rows
        self._shapes = {
            m.name: m.matrix_shape for m in weight_scope(model).members if m.name.startswith(tuple(f"{b}." for b in stream.blocks))
        }
        self._item = next(model.parameters()).element_size()
        self._projections: dict[int, Tensor] = {}
        self.levels = None
        self.facts = {"method": method.slug, "width": stream.width, "bases": stream.n, "centred": stream.centred, "seed": method.seed}

    def at(self, level: float) -> Applied:
        """Set how many directions are kept; the same number everywhere."""
        self.kept = self._kept_at(level)
        self._projections = {}
        energy = sum(removed_energy(values, self.kept) for values, _ in self.bases) / len(self.bases)
        width = self.stream.width
        words = f"{width:,} dimensions of the residual stream"
        return Applied(level, 1 - self.kept / width, words, energy, "share of the stream's energy removed, mean of blocks")

    def cost(self, level: float) -> Cost:
        """Slices of the matrices that read or write the stream, and what turns one block's basis into the next."""
        if check_level(level) == 0.0:
            return Cost(level)
        kept, width = self._kept_at(level), self.stream.width
        left = {name: kept / width for name, shape in self._shapes.items() if width in shape[1:]}
        turns = float(kept * kept * len(self.stream.blocks)) if kept < width else 0.0
        own = {"overhead_flops": 2 * turns, "rows": self._rows, "overhead_bytes": turns * self._item}
        shares = Shares(products=left, touched=dict(left), static=True, **own)
        return Cost(level, facts={"kept": kept, "width": width}, shares=shares)

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> Tensor | None:
        """Projected; None where all is kept."""
        del rows
        if self.kept == self.stream.width or not len(values):
            return None
        x = values - values.mean(-1, keepdim=True) if self.stream.centred else values
        return x @ self._projection(self.stream.places[site], values)

    def _projection(self, place: int, like: Tensor) -> Tensor:
        if place not in self._projections:
            vectors = self.bases[place][1][:, : self.kept]
            self._projections[place] = (vectors @ vectors.T).to(like)
        return self._projections[place]

    def _kept_at(self, level: float) -> int:
        return self.stream.width - removed_of(self.stream.width, check_level(level))
