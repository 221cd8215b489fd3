"""What interventions on tokens share: tokens leave at the end of a block, and later blocks go on without them.

1. At the end of every block with self-attention but the last, a method says which tokens go, from the attention of that block. Of the
   n - 1 real tokens behind the first, floor(level (n - 1) k / K) are gone after the k-th of K such blocks: the level is the share gone
   in the last block, and half of it in the mean over blocks. The first token (the class token of most models) and padding never go.
2. A token that is gone is no key in later blocks, and its row of the stream stays what it was (frozen); one that was merged goes on
   with the row of the token it was merged into. Nothing is cut out of tensors: what would be saved is counted, over real tokens.
3. Level 0: no hook is there at all. Bidirectional models only: in a causal one each token's own answer is asked for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.capture.attention import AttentionCall
from analysis.capture.attention_places import AttentionPlace
from analysis.capture.running import unwrapped
from analysis.interventions.attention.base import AttentionIntervention, HeldAttention
from analysis.interventions.attention.pattern import Pattern
from analysis.interventions.attention.tally import Kept
from analysis.interventions.spec import Applied, Calibration, Cost, Shares, Target
from analysis.interventions.structure.base import stream_of
from analysis.interventions.structure.finding import block_around, block_plan
from analysis.interventions.structures import removed_of
from analysis.interventions.tokens.state import Tokens
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor

RUNNING = "tokens"
"""Where the example that runs is in a pattern's memory."""
FROZEN = "Tokens that are gone keep the value they had as their output: losses at each token are asked of them as well."


@dataclass(frozen=True)
class TokenMethod(AttentionIntervention):
    """A rule that takes tokens away."""

    target: ClassVar[Target] = "tokens"
    denominator: ClassVar[str] = "real tokens behind the first, in the last block"
    notes: ClassVar[tuple[str, ...]] = (FROZEN,)
    nested: ClassVar[bool] = False  # what goes first changes what the later blocks see

    @abstractmethod
    def reduce(self, tokens: Tokens, rows: Tensor, n: int) -> Tensor:
        """Take ``n`` >= 1 of the tokens behind the first away, and give the rows [real, width] that the next block is given."""

    def keep(self, pattern: Pattern) -> Kept:
        """Keys still there, of all queries; pairs of those still there."""
        alive = pattern.memory[RUNNING].alive
        pairs = float((pattern.allowed & alive & alive[:, None]).sum())
        return Kept(alive.expand(1, pattern.n, -1), pairs=pairs)

    def attend(self, pattern: Pattern) -> tuple[Tensor, Kept]:
        """Attention to the keys still there, each counted as often as it stands for tokens; the example remembers it."""
        tokens: Tokens = pattern.memory[RUNNING]
        weights, kept = super().attend(replace(pattern, logits=pattern.logits + tokens.size.log()))
        left, key = tokens.left, pattern.call.key
        tokens.weights = weights[:, left][:, :, left]
        tokens.key = None if key is None else key[0][:, left].float()
        return weights, kept

    @contextmanager
    def on(self, subject: Any, calibration: Calibration | None = None) -> Iterator[HeldTokens]:
        """Hold the model; hooks are gone on exit, also on error."""
        held = HeldTokens(self, unwrapped(subject.model), calibration)
        try:
            yield held
        finally:
            held.release()


@dataclass(frozen=True)
class TokenPruning(TokenMethod):
    """Tokens are left where they are: those that matter least."""

    @abstractmethod
    def scores(self, tokens: Tokens) -> Tensor:
        """What each token still there is worth [alive], from ``tokens.weights``; the lowest go, of equal ones the earliest."""

    def reduce(self, tokens: Tokens, rows: Tensor, n: int) -> Tensor:
        """The n of lowest score go; no row changes."""
        worth = self.scores(tokens)[1:]
        tokens.remove(tokens.left[1:][worth.argsort(stable=True)[:n]])
        return rows


def mean_keys(slug: str, tokens: Tokens) -> Tensor:
    """[alive, d]: what tokens are compared by, the mean of the heads' keys."""
    if tokens.key is None:
        raise IncompatibleSubject(f"{slug} must be given a model whose keys can be seen, got one where they cannot; choose another.")
    return tokens.key.mean(0)


@dataclass
class Counted:
    """Sums since a level was set, over examples."""

    removed: float = 0.0
    removable: float = 0.0
    computed: float = 0.0
    """Rows that blocks computed."""
    rows: float = 0.0


class HeldTokens(HeldAttention):
    """A model whose blocks go on without some of their tokens."""

    method: TokenMethod

    def __init__(self, method: TokenMethod, model: Any, calibration: Calibration | None) -> None:
        super().__init__(method, model, calibration)
        if any(place.causal for place in self.places.values()):
            raise IncompatibleSubject(f"{method.slug} must be given a model whose tokens see all, got a causal one; choose another model.")
        self._blocks = self._find_blocks()
        within = {key: block_around(model, place.site.module) for key, place in self.places.items()}
        self.places = {key: place for key, place in self.places.items() if within[key] in self._blocks}
        attending = [block for block in self._blocks if block in within.values()]
        self._stops = attending[:-1]
        if not self._stops:
            raise IncompatibleSubject(
                f"{method.slug} must be given a model with two blocks or more of self-attention on one stream of tokens, got "
                f"{len(attending)}; choose another."
            )
        left_dense = len(self.found) - len(self.places)
        self.facts = {**self.facts, "calls": len(self.places), "calls_left_dense": left_dense, "tokens_go_after": list(self._stops)}
        self._states: dict[int, Tokens] = {}
        self._form = (0, 0)
        """Examples and positions of the batch that runs."""
        self._seen_before = 0
        self._counted: dict[float, Counted] = {}
        self._handles: list[Any] = []

    def _find_blocks(self) -> list[str]:
        if "token_blocks" not in self.derived:
            plan = block_plan(self.model, self.batches[0])
            self.derived["token_blocks"] = [spot.block for spot in plan.spots if spot.block is not None]
        return self.derived["token_blocks"]

    def at(self, level: float) -> Applied:
        """Set the live model to a level; what was counted at it before is forgotten."""
        applied = super().at(level)
        self._counted[level], self._seen_before = Counted(), 0
        if level > 0:
            self._handles.append(self.model.register_forward_pre_hook(self._starting))
            for block in self._blocks:
                self._handles.append(self.model.get_submodule(block).register_forward_hook(self._leaving(block), with_kwargs=True))
        return replace(applied, denominator=self.method.denominator)

    def release(self) -> None:
        """Take every hook away: the model is dense."""
        super().release()
        for handle in self._handles:
            handle.remove()
        self._handles, self._states = [], {}

    def _starting(self, *_: Any) -> None:
        """Another batch."""
        self._seen_before += len(self._states)
        self._states = {}

    def _example(self, call: AttentionCall, place: AttentionPlace, example: int, real: Tensor | None) -> Tensor:
        """[heads, n, d_v] of one example."""
        import torch

        if example not in self._states:
            self._form = call.shape[0], call.shape[2]
            n, device = call.shape[2], next(t for t in (call.query, call.logits) if t is not None).device
            at = torch.arange(n, device=device) if real is None else real.nonzero()[:, 0]
            self._states[example] = Tokens(at, self._seen_before + example)
        self.memory[RUNNING] = self._states[example]
        return super()._example(call, place, example, real)

    def _leaving(self, block: str) -> Any:
        """The hook of a block: frozen rows are put back, then more tokens go."""
        turn = self._stops.index(block) + 1 if block in self._stops else None

        def hook(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> Any:
            del module
            given, made = stream_of(args, kwargs), output[0] if isinstance(output, tuple) else output
            self._check_form(block, given)
            made = made.clone()
            for example, tokens in self._states.items():
                if tokens.n:
                    made[example, tokens.at] = self._passed(tokens, given[example, tokens.at], made[example, tokens.at], turn)
            return made if not isinstance(output, tuple) else (made, *output[1:])

        return hook

    def _check_form(self, block: str, given: Tensor) -> None:
        if self._states and given.shape[:2] != self._form:
            raise IncompatibleSubject(
                f"the stream at {block} must be laid out by example and position, got {tuple(given.shape)} for {self._form[0]} examples of "
                f"{self._form[1]} positions; choose another model."
            )

    def _passed(self, tokens: Tokens, given: Tensor, made: Tensor, turn: int | None) -> Tensor:
        """Rows [real, width] that an example goes on with behind a block."""
        import torch

        counted = self._counted[self._level]
        counted.computed, counted.rows = counted.computed + tokens.n_alive, counted.rows + tokens.n
        rows = torch.where(tokens.alive[:, None], made, given)[tokens.into]
        if turn is None:
            return rows
        wanted = removed_of(tokens.n - 1, self._level * turn / len(self._stops)) - (tokens.n - tokens.n_alive)
        tokens.depth = (turn - 1) / len(self._stops)
        if wanted > 0:
            rows = self.method.reduce(tokens, rows, wanted)
            self.tally.products, tokens.products = self.tally.products + tokens.products, 0.0
        if turn == len(self._stops):
            counted.removed, counted.removable = counted.removed + tokens.n - tokens.n_alive, counted.removable + tokens.n - 1
        return rows

    def measured_share(self) -> float | None:
        """Share of the denominator removed since the last `at`; None where nothing ran, or at level 0."""
        counted = self._counted.get(self._level)
        return None if not self._level or counted is None or not counted.removable else counted.removed / counted.removable

    def cost(self, level: float) -> Cost:
        """As counted at that level; before anything ran there, rows as planned, and pairs as if all examples had as many tokens."""
        tally, counted = self._tallies.get(level), self._counted.get(level)
        if level == 0:
            shares = Shares()
        elif tally is None or counted is None or not tally.pairs or not counted.rows:
            shares = self._planned(level)
        else:
            shares = Shares(
                pairs=tally.kept / tally.pairs, positions=counted.computed / counted.rows, overhead_pairs=tally.products / tally.pairs / 2
            )
        return Cost(level, layout="tokens", facts=dict(self.facts), shares=shares)

    def _planned(self, level: float) -> Shares:
        """Of many tokens."""
        stops, gone, left = len(self._stops), 0, []
        for block in self._blocks:
            left.append(1 - level * gone / stops)
            gone += block in self._stops
        return Shares(pairs=sum(share**2 for share in left) / len(left), positions=sum(left) / len(left))
