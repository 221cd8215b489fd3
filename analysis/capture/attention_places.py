"""Where a model has attention: each call of each site, its heads, what it looks at, and the matrix that reads what the heads give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

from analysis.capture.attention import EXCLUDED, AttentionCall
from analysis.capture.attention_seen import SoftmaxFollower
from analysis.capture.attention_session import capture_attention
from analysis.capture.discovery import find_sites
from analysis.capture.operators import FUSED_ATTENTION, MOVES, PRODUCTS, RESHAPES, name_of, read_product, tensors_in
from analysis.capture.parameters import Parameters, reads_rows_of
from analysis.capture.running import ModuleStack, observable, run, unwrapped
from analysis.capture.site import Site
from analysis.capture.streams import with_distinct_lengths
from analysis.models.placement import weight_values

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Projection:
    """The matrix that reads the heads' outputs side by side."""

    weight: str
    transposed: bool
    """Stored [in, out]."""


@dataclass(frozen=True)
class AttentionPlace:
    """One call of a site in every forward pass."""

    site: Site
    turn: int
    heads: int
    groups: int
    """Heads of keys and values; fewer than `heads` where queries share them."""
    width: int | None
    """Numbers in a query; None where only logits could be seen."""
    crosses: bool
    """Queries and keys are different sequences."""
    causal: bool
    """No query sees a later key."""
    projection: Projection | None
    """None where what reads the heads is no stored matrix, or not at once."""


def find_attention(
    model: nn.Module, batch: Mapping[str, Any] | tuple[Any, ...], *, names: Mapping[str, str] | None = None
) -> list[AttentionPlace]:
    """The attention of ``model``, in order of execution, found by running it on ``batch``; empty where there is none to be seen.

    Attention that neither calls torch's functions nor a softmax (linear attention, kernels of other libraries) is not seen.
    """
    model = unwrapped(model)
    batch = with_distinct_lengths(batch)
    sites = [site for site in find_sites(model, batch, names=names) if site.kind == "attention"]
    if not sites:
        return []
    projections = _projections(model, batch, sites)
    probe = _Probe(projections)
    with capture_attention(model, sites, probe) as session:
        session.run(batch)
    return probe.found


class _Probe:
    """Takes down what every call is like."""

    def __init__(self, projections: Mapping[str, Projection]) -> None:
        self.found: list[AttentionPlace] = []
        self._projections = projections

    def attention(self, call: AttentionCall) -> None:
        """One more place."""
        _, heads, queries, keys = call.shape
        shared = call.key if call.key is not None else call.value
        self.found.append(
            AttentionPlace(
                site=call.site,
                turn=call.turn,
                heads=heads,
                groups=heads if shared is None else shared.shape[1],
                width=None if call.query is None else call.query.shape[-1],
                crosses=queries != keys,
                causal=queries == keys and _looks_back_only(call),
                projection=self._projections.get(call.site.name),
            )
        )


def _looks_back_only(call: AttentionCall) -> bool:
    import torch

    if call.causal:
        return True
    for start, block in call.blocks():
        later = torch.arange(block.shape[2])[None, :] > torch.arange(start, start + block.shape[1])[:, None]
        if bool(((block.cpu() > EXCLUDED / 10) & later).any()):
            return False
    return call.shape[2] > 1


def _projections(model: nn.Module, batch: Any, sites: Sequence[Site]) -> dict[str, Projection]:
    with observable(model), _Outputs(model, sites) as outputs:
        run(model, batch)
    return outputs.found


class _Outputs(TorchFunctionMode):
    """Follows what attention gives to the first stored matrix that reads it."""

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        from torch.utils.weak import WeakIdKeyDictionary

        super().__init__()
        self.found: dict[str, Projection] = {}
        self._sites = {(site.module, site.operator): site.name for site in sites}
        self._parameters, self._stack, self._follower = Parameters(model), ModuleStack(model), SoftmaxFollower()
        self._given: Any = WeakIdKeyDictionary()

    def __enter__(self) -> _Outputs:
        self._stack.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.__exit__(*error)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = name_of(func)
        reading = read_product(name, args, kwargs, self._parameters.is_stored) if name in PRODUCTS else None
        if reading is not None and (site := self._given.get(reading.values)) is not None:
            self._read(site, reading.weight, reading.in_dim)
        result = func(*args, **kwargs)
        self._follow(name, args, kwargs, result)
        return result

    def _follow(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        operator = FUSED_ATTENTION.get(name)
        if operator == "mha":
            weight = kwargs.get("out_proj_weight", args[11] if len(args) > 11 else None)
            if weight is not None and (site := self._sites.get((self._stack.path, operator))) is not None:
                self._read(site, weight, -1)
            return
        seen = operator is None and self._follower.follow(name, args, kwargs, result) is not None
        out = next(tensors_in(result), None)
        if operator == "sdpa" or seen:
            if out is not None and (site := self._sites.get((self._stack.path, operator or "softmax"))) is not None:
                self._given[out] = site
        elif out is not None and (name in RESHAPES or name in MOVES) and (site := self._of(args[0])) is not None:
            self._given[out] = site

    def _of(self, operand: Any) -> str | None:
        import torch

        return self._given.get(operand) if isinstance(operand, torch.Tensor) else None

    def _read(self, site: str, weight: Tensor, in_dim: int) -> None:
        stored = self._parameters.find(weight, self._stack.path)
        if stored is not None and stored.index is None:
            self.found.setdefault(site, Projection(stored.name, reads_rows_of(weight, in_dim, stored.parameter)))


def projection_of(model: nn.Module, place: AttentionPlace, width: int) -> Tensor | None:
    """W_O of a model that is not compiled (`running.unwrapped`), by head [heads, width, d_out], float32, for outputs of ``width``
    numbers a head; None where it cannot be told."""
    if place.projection is None:
        return None
    weight = weight_values(model, place.projection.weight)
    if weight.ndim != 2 or weight.is_meta:
        return None
    rows = weight if place.projection.transposed else weight.T
    if rows.shape[0] != place.heads * width:
        return None
    return rows.float().reshape(place.heads, width, -1)
