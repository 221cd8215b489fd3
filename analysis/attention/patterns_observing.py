"""From one window to what `head_patterns` measures of every head: whole patterns, one place at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.attention.observing import key_of
from analysis.capture.attention import EXCLUDED, AttentionCall
from analysis.capture.attention_places import AttentionPlace
from analysis.capture.attention_session import capture_attention
from analysis.capture.running import hooked
from analysis.capture.site import Frame
from analysis.stats import head_similarity, page_rank, pattern_errors, pattern_hierarchy
from analysis.stats.attention_policies import kept_mass
from analysis.stats.attention_spans import span_costs
from analysis.stats.pattern_masks import block_sum_recall, counted_rows, search
from analysis.stats.pattern_shapes import shape_stats

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

FEWEST = 4
"""Tokens below which a window has no pattern to speak of."""
SUB_WINDOWS = 4
"""Of attention within windows of an image, how many of them are looked at per image."""
POOLED = 16
"""Parts of queries and of keys by which patterns of all layers are compared."""
TOP_TOKENS = 0.1
"""Share of tokens whose importance `page_rank_top` adds up."""
LEVELS = (0.5, 1.0, 2.0)
"""Budgets of the curves, as multiples of the budget set."""


@dataclass(frozen=True)
class Asked:
    """What is asked of a window."""

    budget: float
    block: int
    longest: int
    elements: int

    def keys(self, n: int, level: float = 1.0) -> int:
        """The budget in keys per query: at least 2, at most the window."""
        return min(n, max(2, round(self.budget * level * n)))


@dataclass(frozen=True)
class Pattern:
    """One window of one place: weights and logits [heads, n, n], outputs [heads, n, d], of the real tokens only."""

    weights: Tensor
    logits: Tensor
    valid: Tensor
    """bool [n, n]: pairs that some head may use; none in a row whose query sees no key, whose weights are all 0."""
    outputs: Tensor | None
    kept: Tensor
    """bool [tokens]: which are no padding."""

    @property
    def n(self) -> int:
        """Tokens."""
        return self.weights.shape[-1]


def patterns_of(call: AttentionCall, windows: int, elements: int) -> Iterator[Pattern]:
    """The whole patterns of the first windows of a call whose queries and keys are the same tokens, rows as the model's softmax has them.

    Only padding leaves the square: tokens that are masked out, and, where no mask says which are, those that neither see nor are seen.
    """
    import torch

    batch, heads, n, _ = call.shape
    like = call.query if call.query is not None else call.logits
    assert like is not None
    every = torch.full((min(windows, batch), heads, n, n), EXCLUDED, device=like.device)
    for start, block in call.blocks(elements):
        part = block.view(batch, heads, *block.shape[1:])[: len(every)]
        every[:, :, start : start + part.shape[2], : part.shape[3]] = part
    real, output = call.real_queries(), call.output
    for w, logits in enumerate(every):
        allowed = logits > EXCLUDED / 2
        valid = allowed.any(0)
        kept = valid.any(1) | valid.any(0) if real is None else real[w].to(like.device)
        weights = logits.softmax(-1).masked_fill_(~allowed, 0.0)
        outputs = output[w].detach().float()[:, kept] if output is not None and output.shape[:3] == (batch, heads, n) else None
        square = (slice(None), kept.nonzero(), kept.nonzero()[:, 0])
        yield Pattern(weights[square], logits[square], valid[square[1:]], outputs, kept)


def measured(pattern: Pattern, causal: bool, asked: Asked) -> dict[str, Tensor]:
    """Everything that is measured of one window, arrays that begin with the heads."""
    import torch

    keys = asked.keys(pattern.n)
    searched = search(pattern.weights, pattern.logits, pattern.valid, keys, asked.block, causal)
    found = {"recall": searched.recall, "density": searched.density, "tokens": pattern.valid.new_tensor(pattern.n, dtype=torch.float64)}
    found["block_sums"] = block_sum_recall(pattern.weights, pattern.valid, keys, asked.block, causal)
    found["shape"] = shape_stats(pattern.weights, pattern.valid, keys, causal)
    found["curves"] = _curves(pattern, causal, asked)
    if not causal:
        ranks = page_rank.page_rank(pattern.weights)
        found["ranks"] = _stack(page_rank.top_share(ranks, TOP_TOKENS), page_rank.rank_variance(ranks))
        importance, counted = page_rank.over_heads(ranks)
        found["counted"] = counted.sum().double()
        if bool(counted.any()):
            found["importance"] = page_rank.top_share(importance / importance.sum(), TOP_TOKENS)
    several = pattern.valid.sum(1) > 1  # a row with a single key is the same in every head
    weights = pattern.weights[:, several if bool(several.any()) else pattern.valid.any(1)]
    found["agreement"] = head_similarity.agreement(weights)
    found["divergence"] = head_similarity.jensen_shannon(weights)
    if pattern.outputs is not None:
        outputs = pattern.outputs[:, pattern.valid.any(1)]  # of a query that sees no key it may be anything
        found["cosine"] = head_similarity.output_cosine(outputs)
        found["cka"] = head_similarity.linear_cka(outputs)
    found["pooled"] = head_similarity.pooled(pattern.weights, POOLED)
    return found


def _curves(pattern: Pattern, causal: bool, asked: Asked) -> Tensor:
    """[heads, 5, levels]: mass kept by halving and by the oracle; error of sparse, low-rank, and both."""
    import torch

    n, weights = pattern.n, pattern.weights
    rows = counted_rows(pattern.valid, causal)
    seen = rows + 1 if causal else torch.full_like(rows, n)
    scores, part = pattern.logits[:, rows], weights[:, rows]
    squares, vectors = pattern_errors.spectrum(weights)
    found = []
    for level in LEVELS:
        keys = asked.keys(n, level)
        masks = (pattern_hierarchy.halving(scores, seen, keys), pattern_hierarchy.largest(scores, seen, keys))
        kept = [kept_mass(part, mask, slice(None)).double() for mask in masks]
        errors = (
            pattern_errors.sparse_error(weights, keys),
            pattern_errors.rank_error(squares, keys // 2),
            pattern_errors.combined_error(weights, keys - keys // 2, vectors, keys // 4),
        )
        found.append(_stack(*kept, *errors))
    return torch.stack(found, 2)


def _stack(*columns: Tensor) -> Tensor:
    import torch

    return torch.stack(columns, 1)


class PatternObserver:
    """Measures every call as it happens and keeps the numbers of the window, nothing else."""

    def __init__(self, places: Sequence[AttentionPlace], asked: Asked) -> None:
        self.found: dict[tuple[str, int], list[dict[str, Tensor]]] = {}
        self._places, self._asked = {key_of(p): p for p in places}, asked

    def attention(self, call: AttentionCall) -> None:
        """One call; places with more tokens than the longest window, or fewer than `FEWEST`, are passed over."""
        place = self._places.get((call.site.name, call.turn))
        if place is None or not FEWEST <= call.shape[2] <= self._asked.longest or call.shape[2] != call.shape[3]:
            return
        for pattern in patterns_of(call, SUB_WINDOWS, self._asked.elements):
            if int(pattern.valid.any(1).sum()) >= FEWEST:
                self.found.setdefault(key_of(place), []).append(measured(pattern, place.causal, self._asked))


def observe_window(subject: Any, places: Sequence[AttentionPlace], asked: Asked) -> dict[str, np.ndarray]:
    """The numbers of the subject's one window by ``place|name``; means where a place saw several windows within it."""
    import torch

    observer = PatternObserver(places, asked)
    with capture_attention(subject.model, list({p.site.name: p.site for p in places}.values()), observer) as session:
        for batch, _ in subject.data.batches(1, subject.device):
            session.run(batch, Frame.of(batch))
    numbers: dict[str, np.ndarray] = {}
    for i, place in enumerate(places):
        seen = observer.found.get(key_of(place), [])
        for name in seen[0] if seen else ():
            numbers[f"{i}|{name}"] = torch.stack([one[name].double() for one in seen]).mean(0).cpu().numpy()
    return numbers


# ---------------------------------------------------------------------------------------------------------------------
# What shorter spans would cost


def span_numbers(subject: Any, places: Sequence[AttentionPlace], asked: Asked, width: int) -> dict[str, np.ndarray]:
    """Costs of shorter spans by place [heads, spans, 2], from one backward pass through the task's loss per scored position; empty where
    the task has no answers or nothing is causal."""
    import torch

    from analysis.tasks import choose_task

    causal = [p for p in places if p.causal]
    task = choose_task(subject)
    if not causal or task.objective.is_divergence:
        return {}
    calls = _Calls(causal, asked.longest)
    handle, sites = subject.model.register_forward_pre_hook(_with_gradients), list({p.site.name: p.site for p in causal}.values())
    with hooked([handle]), capture_attention(subject.model, sites, calls) as session:
        for batch in task.batches(1):
            calls.slopes(session.run(batch.inputs), batch, task.objective)
    numbers = {}
    with torch.no_grad():
        for i, place in enumerate(places):
            if key_of(place) in calls.seen:
                numbers[f"{i}|spans"] = _span_costs(*calls.seen[key_of(place)], asked, width).double().cpu().numpy()
    return numbers


def _with_gradients(*_: Any) -> None:
    """Gradients on, inside the capture that has turned them off and will put back what was before."""
    import torch

    torch.set_grad_enabled(True)


class _Calls:
    """Keeps every causal call of one window until the gradients of the heads' outputs are known."""

    def __init__(self, places: Sequence[AttentionPlace], longest: int) -> None:
        self.seen: dict[tuple[str, int], tuple[AttentionCall, Tensor]] = {}
        self._calls: list[AttentionCall] = []
        self._wanted, self._longest = {key_of(p) for p in places}, longest

    def attention(self, call: AttentionCall) -> None:
        """Keep a call whose output has a gradient, of one window."""
        wanted = (call.site.name, call.turn) in self._wanted and FEWEST <= call.shape[2] <= self._longest and call.shape[0] == 1
        if wanted and call.output is not None and call.output.requires_grad and call.value is not None:
            self._calls.append(call)

    def slopes(self, output: Any, batch: Any, objective: Any) -> None:
        """Differentiate the mean loss of the scored positions for the outputs that were kept."""
        import torch

        from analysis.tasks.objectives import answer_of

        with torch.enable_grad():
            loss, _, counts = objective.score(answer_of(output), batch)
            mean = torch.where(counts, loss, 0.0).sum() / counts.sum().clamp(min=1)
        if self._calls and mean.requires_grad:
            found = torch.autograd.grad(mean, [c.output for c in self._calls if c.output is not None], allow_unused=True)
            self.seen = {(c.site.name, c.turn): (c, g) for c, g in zip(self._calls, found) if g is not None}
        self._calls = []


def _span_costs(call: AttentionCall, slope: Tensor, asked: Asked, width: int) -> Tensor:
    """[heads, spans, 2] of one call, from dL/dA = dL/dz . v."""
    assert call.value is not None
    pattern = next(patterns_of(_detached(call), 1, asked.elements))
    heads = call.shape[1]
    value = call.value.detach()[0].float().repeat_interleave(heads // call.value.shape[1], 0)[:, pattern.kept]
    gradient = slope[0].float()[:, pattern.kept] @ value.transpose(1, 2)
    weights = pattern.logits.double().softmax(-1)
    seeing = pattern.valid.any(1)[:, None]
    return span_costs(weights.where(pattern.weights > 0, 0.0), gradient.double().where(seeing, 0.0), width)


def _detached(call: AttentionCall) -> AttentionCall:
    import dataclasses

    names = ("query", "key", "value", "output", "mask", "logits")
    return dataclasses.replace(call, **{name: None if (t := getattr(call, name)) is None else t.detach() for name in names})


def arrays_of(state: Mapping[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    """What a state says of place ``i``, by name."""
    return {name.partition("|")[2]: array for name, array in state.items() if name.partition("|")[0] == str(i)}
