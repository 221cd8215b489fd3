"""What a point costs to run: FLOPs, bytes moved per token, bytes held, at an operating point that is printed with them.

F: executed FLOPs, 2 per multiply-add, of one pass over one example (prefill, B = 1) with zeros skipped. Matrix products are counted as
   they run, unembedding included; attention of a causal language model over the keys a query may see only.
D: bytes moved per produced token at position n (decode): weights / B, keys and values read and written, inputs and outputs of products.
   Weights of a selection itself (predictors) are weights as all others. Of experts the share that B tokens are sent to (`experts`); all
   of them where it is not known how many a token is sent to.
M: bytes held: weights in their storage format, a selection's own, and the keys and values of one sequence of n positions.

Pruned tensors are stored as kept values and one bit per unit (weight, or tile), or dense where that is smaller.
Source: SENSITIVITY, Cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from analysis.interventions.experts import Experts, experts_of
from analysis.interventions.spec import Cost, MatrixCount, Shares

if TYPE_CHECKING:
    from torch import nn

BATCHES = (1, 32)
"""Sequences decoded side by side."""


@dataclass(frozen=True)
class PointCost:
    """Of one level."""

    parameters: int
    """Not zero, of the whole model; tied ones once."""
    flops: float
    """F."""
    decode_bytes: Mapping[int, float] | None
    """D by batch size; None where the pass left no keys and values behind: nothing is decoded, or they could not be seen."""
    resident_bytes: float
    """M."""


@dataclass(frozen=True)
class DenseCost:
    """What the dense model costs, from which the cost at every level follows. Made by `dense_cost`."""

    context: int
    """n: positions of the example; 1 where examples are not tokens."""
    flops: float
    attention_flops: float
    """Part of `flops` that is products of two computed tensors."""
    flops_of: Mapping[str, float]
    """By parameter of the scope."""
    n_parameters: int
    weight_bytes: float
    item_bytes: Mapping[str, int]
    """Bytes of one weight, by parameter of the scope."""
    looked_up_bytes: float
    """Of tables from which a token reads one row only."""
    position_bytes: float | None
    """Keys and values of one position; None where the model keeps none."""
    product_bytes: float
    """What products read and write per position, weights left out."""
    experts: tuple[Experts, ...] = ()
    expert_bytes: Mapping[str, int] = field(default_factory=dict)
    """Dense bytes of every parameter of an expert, in scope or not."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Weights by parameter of the scope."""
    causal: bool = False
    """Whether a query sees the keys at or before it only."""

    @property
    def words(self) -> str:
        """The operating point, as printed beside every cost."""
        n = f"{self.context:,} positions" if self.context > 1 else "one example"
        text = f"prefill: one pass over {n}, B = 1, {self.flops / 1e9:.4g} GFLOP dense, {100 * self.attention_share:.3g} % of it attention"
        if self.position_bytes is not None:
            at = " and ".join(str(batch) for batch in BATCHES)
            text += f"; decode: one token at position {self.context:,}, B = {at}{self._expert_words}"
        return f"{text}; weights in their own type, pruned tensors as kept values and a bit mask, or dense where smaller"

    @property
    def _expert_words(self) -> str:
        if not self.experts:
            return ""
        known = sorted({(e.per_token, e.n) for e in self.experts if e.per_token is not None})
        said = [f"{k} of {n} experts a token, chosen independently" for k, n in known]
        if len(known) < len({(e.per_token, e.n) for e in self.experts}):
            said.append("all experts counted where the router does not say how many a token is sent to")
        return f", {', '.join(said)}"

    @property
    def attention_share(self) -> float:
        """Attention's part of the FLOPs, 0 to 1."""
        return self.attention_flops / self.flops if self.flops else 0.0

    def at(self, cost: Cost) -> PointCost:
        """With the scope's weights pruned as counted there, and of everything else the shares that are left."""
        parts = (cost.shares or Shares(), *cost.more)
        self._check(parts)
        zeros = {c.name: c.n_zero / c.n for c in cost.counts}
        less = {c.name: c.n * self.item_bytes[c.name] - _stored(c, self.item_bytes[c.name], cost.layout) for c in cost.counts}
        stored = {name: n - less.get(name, 0.0) for name, n in self.bytes_of.items()}
        weights = self.weight_bytes - sum(less.values())
        decode = None
        if self.position_bytes is not None:
            keys = self.context * (math.prod(part.keys_read for part in parts) + sum(part.overhead_keys for part in parts)) + 1
            per_sequence = self.position_bytes * keys + self.product_bytes
            read = {batch: weights - self.looked_up_bytes - self._unread(batch, less, stored, parts) for batch in BATCHES}
            own = {batch: sum(part.overhead_bytes * _union(part.overhead_touched, batch) for part in parts) for batch in BATCHES}
            decode = {batch: (read[batch] + own[batch]) / batch + per_sequence for batch in BATCHES}
        static = [part for part in parts if part.static]
        gone = {name: 1 - math.prod(part.touched.get(name, 1.0) for part in static) for part in static for name in part.touched}
        held = weights - sum(stored[name] * share for name, share in gone.items()) + sum(part.overhead_bytes for part in parts)
        held += (self.position_bytes or 0.0) * self.context * math.prod(part.keys_held for part in parts)
        parameters = self.n_parameters - sum(c.n_zero for c in cost.counts)
        parameters -= round(sum((1 - zeros.get(name, 0.0)) * self.sizes[name] * share for name, share in gone.items()))
        return PointCost(parameters, self._flops(zeros, parts), decode, held)

    def _flops(self, zeros: Mapping[str, float], parts: Sequence[Shares]) -> float:
        """Of a pass: products of the scope as far as executed, attention as far as computed, the rest, and what selecting takes."""
        done = sum(
            n * (1 - zeros.get(name, 0.0)) * math.prod(part.products.get(name, 1.0) for part in parts) for name, n in self.flops_of.items()
        )
        attention = self.attention_flops * (math.prod(part.pairs for part in parts) + sum(part.overhead_pairs for part in parts))
        rest = self.flops - self.attention_flops - sum(self.flops_of.values())
        selecting = sum(part.overhead_flops * (self.context if self.context > 1 else part.rows) for part in parts)
        return rest + done * math.prod(part.positions for part in parts) + attention + selecting

    def stretched(self, context: int) -> DenseCost:
        """At another length, by formula: products and keys grow with it, attention with the pairs, n (n + 1) / 2 or n^2.

        Shares are taken to be those counted at the measured length. A window of attention narrower than the length is not known here.
        Raises `ValueError` where examples are not tokens.
        """
        if self.context <= 1 or context < 1:
            raise ValueError(f"a cost can be stretched from and to a number of positions, got {self.context} and {context}.")
        longer = context / self.context
        pairs = longer * (context + 1) / (self.context + 1) if self.causal else longer**2
        flops_of = {name: n * longer for name, n in self.flops_of.items()}
        attention = self.attention_flops * pairs
        flops = (self.flops - self.attention_flops) * longer + attention
        return replace(self, context=context, flops=flops, attention_flops=attention, flops_of=flops_of)

    @property
    def bytes_of(self) -> dict[str, float]:
        """Dense bytes by parameter of the scope."""
        return {name: float(n * self.item_bytes[name]) for name, n in self.sizes.items()}

    def _check(self, parts: Sequence[Shares]) -> None:
        unknown = sorted({name for part in parts for name in (*part.products, *part.touched)} - set(self.sizes))
        if unknown:
            raise ValueError(f"shares must be of parameters in the scope, got {unknown[0]!r}; only those are counted one by one.")

    def _unread(self, batch: int, less: Mapping[str, float], stored: Mapping[str, float], parts: Sequence[Shares]) -> float:
        """Bytes that no token of a step of this batch reads, on average: experts it is not sent to, and what a method does not touch.

        A dynamic method chooses for each token by itself: of B independent tokens, 1 - (1 - p)^B of a matrix is touched.
        """
        routed = {name: one.touched(batch) for one in self.experts for name in one.parameters}
        unread = sum((1 - share) * (self.expert_bytes[name] - less.get(name, 0.0)) for name, share in routed.items())
        for name in dict.fromkeys(name for part in parts for name in part.touched):
            shares = ((part.touched.get(name, 1.0), part.static) for part in parts)
            union = math.prod(p if static else _union(p, batch) for p, static in shares)
            unread += stored[name] * routed.get(name, 1.0) * (1 - union)
        return unread


def _union(p: float, batch: int) -> float:
    """Share of a matrix that B tokens touch, each a share p of it by itself."""
    return 1 - (1 - p) ** batch


def _stored(count: MatrixCount, item: int, layout: str) -> float:
    """Bytes of one tensor: kept values and a bit per unit, at most what it takes dense; rows and columns leave a smaller dense matrix."""
    kind, *shape = layout.split()
    unit = math.prod(int(side) for side in shape[0].split("x") if side.isdigit()) if kind == "block" else 1
    mask = 0.0 if kind in ("rows", "columns") else count.n / unit / 8
    return min(float(count.n * item), count.n_kept * item + mask)


def dense_cost(model: nn.Module, example: Any, context: int, scope: Mapping[str, nn.Parameter], *, causal: bool) -> DenseCost:
    """Measure the dense model on one example (as `capture.running.run` takes it), of ``context`` positions.

    ``scope``: the parameters that may be pruned, by name. ``causal``: attention is counted over the keys at or before each query.
    """
    from analysis.capture.running import observable, run, unwrapped

    model = unwrapped(model)
    counter = _counter()
    with observable(model), counter:
        output = run(model, example)
    by_module = {path.partition(".")[2]: sum(ops.values()) for path, ops in counter.get_flop_counts().items() if path != "Global"}
    whole = counter.get_flop_counts().get("Global", {})
    attention = float(sum(n for op, n in whole.items() if _is_attention(op)))
    total, seen = float(sum(whole.values())), (context + 1) / (2 * context) if causal else 1.0
    parameters = list(model.parameters())
    experts = tuple(experts_of(model))
    expert_bytes = {name: model.get_parameter(name).nbytes for one in experts for name in one.parameters}
    return DenseCost(
        context, total - attention * (1 - seen), attention * seen, _flops_of(model, scope, by_module),
        sum(p.numel() for p in parameters), float(sum(p.nbytes for p in parameters)), {name: p.element_size() for name, p in scope.items()},
        _looked_up(model), _position_bytes(output, context), _product_bytes(model, by_module, experts), experts, expert_bytes,
        {name: p.numel() for name, p in scope.items()}, causal,
    )  # fmt: skip


def _counter() -> Any:
    """torch's own counter; it does not know fused attention on the processor, nor grouped products of experts: those are added."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def fused(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:  # noqa: ARG001 - torch's signature
        return sdpa_flop_count(query, key, value)

    def grouped(rows: Any, stack: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:  # noqa: ARG001 - torch's signature
        return 2 * rows[0] * stack[-2] * stack[-1]

    aten = torch.ops.aten
    return FlopCounterMode(
        display=False, custom_mapping={aten._scaled_dot_product_flash_attention_for_cpu: fused, aten._grouped_mm: grouped}
    )


def _is_attention(operator: Any) -> bool:
    name = str(operator)
    return "scaled_dot_product" in name or "attention" in name or name.rpartition(".")[2] in ("bmm", "baddbmm")


def _flops_of(model: nn.Module, scope: Mapping[str, nn.Parameter], by_module: Mapping[str, float]) -> dict[str, float]:
    """FLOPs of each parameter: those of its module, shared out by size where a module has several matrices (experts, packed attention)."""
    found = {}
    for name, parameter in scope.items():
        path = name.rpartition(".")[0]
        siblings = [p.numel() for p in model.get_submodule(path).parameters() if p.dim() >= 2]
        found[name] = by_module.get(path, 0.0) * parameter.numel() / max(1, sum(siblings))
    return found


def _looked_up(model: nn.Module) -> float:
    """Bytes of embedding tables that no other module reads."""
    from torch import nn

    owners: dict[int, set[bool]] = {}
    size: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter.data_ptr(), set()).add(isinstance(module, nn.Embedding | nn.EmbeddingBag))
            size[parameter.data_ptr()] = parameter.nbytes
    return float(sum(size[pointer] for pointer, kinds in owners.items() if kinds == {True}))


def _position_bytes(output: Any, context: int) -> float | None:
    """Bytes of the keys and values that the pass left behind, per position."""
    cache = getattr(output, "past_key_values", None)
    layers = getattr(cache, "layers", None)
    if not layers:
        return None
    tensors = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None) / context


def _product_bytes(model: nn.Module, by_module: Mapping[str, float], experts: Sequence[Experts]) -> float:
    """Bytes of one row in and one row out of every leaf module that did matrix products; of experts, of as many as a token is sent to."""
    found = 0.0
    share = {name: one.touched(1) for one in experts for name in one.parameters}
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if by_module.get(path) and weight is not None and weight.dim() == 2 and not any(True for _ in module.children()):
            found += share.get(f"{path}.weight", 1.0) * sum(weight.shape) * weight.element_size()
    return found
