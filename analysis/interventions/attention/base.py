"""What interventions on attention have in common: the model's own calls, put in place again over the keys that a method keeps.

1. Where attention is, is found by running the model on a calibration batch; self-attention only. Level 0: no hook is there at all.
2. At any other level each call's output is replaced: a method says which pairs of query and key stay (`keep`), the softmax runs over
   exactly those, learned sinks beside them. Masks, padding, grouped heads and sliding windows are the model's.
   Keys that a window hides take no place of a level's budget; where a method cannot do that, such places stay dense (`whole_only`).
3. A query always keeps a key: itself where it may, else the one with the largest logit. In a causal model no method may look ahead.
4. Pairs, keys read by the last query of each example (by key head: what any of its query heads reads), keys held, and the products
   the selection cost are counted as the model runs, over real tokens; in the cost calls that stay dense are dense.

All levels are shares of query-key pairs unless a method says otherwise, so that methods meet at equal numbers of pairs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from analysis.capture.attention import EXCLUDED, AttentionCall
from analysis.capture.attention_places import AttentionPlace, find_attention
from analysis.capture.attention_session import AttentionSession
from analysis.capture.running import unwrapped
from analysis.capture.site import CaptureError
from analysis.interventions.attention.pattern import Pattern, pattern_of
from analysis.interventions.attention.tally import Kept, Tally
from analysis.interventions.spec import Applied, Calibration, Cost, Held, Intervention, Need, Shares, Target, check_level
from analysis.spec import IncompatibleSubject, Source, UserError

if TYPE_CHECKING:
    from torch import Tensor

PAIRS = "query-key pairs"
PlaceKey = tuple[str, int]


@dataclass(frozen=True)
class AttentionIntervention(Intervention):
    """A rule that keeps pairs of queries and keys."""

    seed: int = 0
    target: ClassVar[Target] = "attention"
    slug: ClassVar[str]  # type: ignore[assignment]
    title: ClassVar[str]  # type: ignore[assignment]
    sources: ClassVar[tuple[Source, ...]]  # type: ignore[assignment]
    nested: ClassVar[bool] = True  # type: ignore[assignment]
    """Whether pairs gone at a level stay gone at higher ones, of one pattern."""
    denominator: ClassVar[str] = PAIRS
    native_unit: ClassVar[str | None] = None
    causal_only: ClassVar[bool] = False
    """Acts on attention that sees no later key; other places stay dense."""
    whole_only: ClassVar[bool] = False
    """Acts on attention without a window narrower than the text; other places stay dense."""
    notes: ClassVar[tuple[str, ...]] = ()  # type: ignore[assignment]

    @property
    def needs(self) -> frozenset[Need]:
        """A batch to find the attention on."""
        return frozenset({"values"})

    @abstractmethod
    def keep(self, pattern: Pattern) -> Kept:
        """Which pairs stay. May not depend on rows after a query's own where the pattern is causal."""

    def attend(self, pattern: Pattern) -> tuple[Tensor, Kept]:
        """Weights [heads, n, n] put in the place of the attention's, and the pairs they stand for."""
        kept = self.keep(pattern)
        mask = _at_least_one(kept.mask.to(pattern.logits.device) & pattern.allowed, pattern)
        return softmax_over(pattern, mask), replace(kept, mask=mask)

    def measure(self, held: HeldAttention) -> None:  # noqa: ARG002 - for methods that look first
        """What all levels need of the dense model, kept in `HeldAttention.derived`; nothing here."""

    def prepare(self, held: HeldAttention, level: float) -> dict[PlaceKey, Any]:  # noqa: ARG002 - for methods that measured
        """What `Pattern.prepared` is at a level, by place; `HeldAttention.native` may be set. Nothing here."""
        return {}

    @contextmanager
    def on(self, subject: Any, calibration: Calibration | None = None) -> Iterator[HeldAttention]:
        """Hold the model; hooks are gone on exit, also on error."""
        held = HeldAttention(self, unwrapped(subject.model), calibration)
        try:
            yield held
        finally:
            held.release()


class HeldAttention(Held):
    """A model whose attention is put in place again by a method."""

    def __init__(self, method: AttentionIntervention, model: Any, calibration: Calibration | None) -> None:
        self.method, self.model = method, model
        self.batches: tuple[Any, ...] = tuple(getattr(calibration, "batches", ()))
        self.derived: dict[Any, Any] = getattr(calibration, "derived", {})
        if not self.batches:
            raise UserError(f"{method.slug} must be given calibration batches, got none; calibrate with values.")
        self.found = self._places()
        self.places = {(p.site.name, p.turn): p for p in self.found if not p.crosses and (p.causal or not method.causal_only)}
        if method.whole_only and self.places:
            self._leave_windows()
        if not self.places:
            kind = "self-attention that sees no later token" if method.causal_only else "self-attention"
            raise IncompatibleSubject(f"{method.slug} must be given a model with {kind}, got none that could be seen; choose another.")
        self.facts = {
            "method": method.slug, "seed": method.seed, "calls": len(self.places), "calls_left_dense": len(self.found) - len(self.places),
            "level": f"share of {method.denominator}", "notes": list(method.notes),
        }  # fmt: skip
        self.native: float | None = None
        """The method's own knob at the present level."""
        self.memory: dict[Any, Any] = {}
        """Of the method, as long as the model is held."""
        self._session: AttentionSession | None = None
        self._level = 0.0
        self._prepared: dict[PlaceKey, Any] = {}
        self._tallies: dict[float, Tally] = {}
        self._groups: dict[PlaceKey, int] = {}
        method.measure(self)

    def _places(self) -> Sequence[AttentionPlace]:
        if "attention_places" not in self.derived:
            self.derived["attention_places"] = find_attention(self.model, self.batches[0])
        return self.derived["attention_places"]

    def _leave_windows(self) -> None:
        """Take out the places where a window is narrower than the calibration texts. Raises `IncompatibleSubject` where that is all."""
        from analysis.interventions.attention.looking import look

        narrow: set[PlaceKey] = set()
        look(self, lambda place, pattern: None if pattern.whole else narrow.add(place))
        self.places = {key: place for key, place in self.places.items() if key not in narrow}
        if not self.places:
            raise IncompatibleSubject(
                f"{self.method.slug} must be given attention that sees the whole text, got windows narrower than it everywhere; give "
                "shorter texts, or choose another method."
            )

    @property
    def tally(self) -> Tally:
        """What was counted at the present level."""
        return self._tallies.setdefault(self._level, Tally())

    def at(self, level: float) -> Applied:
        """Set the live model to a level; what was counted at it before is forgotten."""
        self.release()
        self._level = check_level(level)
        self._tallies[self._level] = Tally()
        self.native = None
        if level > 0:
            self._prepared = self.method.prepare(self, level)
            sites = list({place.site.name: place.site for place in self.places.values()}.values())
            self._session = AttentionSession(self.model, sites, self, direct=True)
            self._session.attach()
        of = f"{self.method.denominator} of {len(self.places)} calls"
        unit = self.method.native_unit if self.native is not None else None
        return Applied(level, level, of, self.native, unit, notes=self.method.notes)

    def release(self) -> None:
        """Take every hook away: the model is dense."""
        if self._session is not None:
            self._session.detach()
            self._session = None

    def attention(self, call: AttentionCall) -> Tensor | None:
        """Replace one call's output."""
        import torch

        place = self.places.get((call.site.name, call.turn))
        batch, heads, n, keys = call.shape
        if place is None or call.value is None or call.output is None or n != keys:
            return None
        if torch.is_grad_enabled() and call.output.requires_grad:
            raise CaptureError("attention on fewer pairs must be run without gradients, got them turned on; run it under torch.no_grad().")
        real = call.real_queries()
        if call.output.shape[:3] != (batch, heads, n) or call.value.shape[2] != n:
            raise IncompatibleSubject(
                f"attention at {call.site.name} must be laid out by head, got output {tuple(call.output.shape)}; choose another model."
            )
        return torch.stack([self._example(call, place, example, None if real is None else real[example]) for example in range(batch)])

    def _example(self, call: AttentionCall, place: AttentionPlace, example: int, real: Tensor | None) -> Tensor:
        """[heads, n, d_v] of one example; padding keeps what the model gave it."""
        assert call.output is not None
        real = None if real is None or bool(real.all()) else real
        if real is not None and not bool(real.any()):
            return call.output[example].float()
        pattern = pattern_of(call, place, example, real, self._level)
        pattern.groups = self._groups_of(call)
        pattern.prepared, pattern.memory = self._prepared.get((call.site.name, call.turn)), self.memory
        weights, kept = self.method.attend(pattern)
        self.tally.add(pattern, kept)
        assert pattern.call.value is not None
        value = pattern.call.value[0].float()
        given = (weights.reshape(len(value), -1, pattern.n) @ value).reshape(pattern.heads, pattern.n, -1)
        if real is None:
            return given
        whole = call.output[example].float().clone()
        whole[:, real] = given
        return whole

    def _groups_of(self, call: AttentionCall) -> int:
        """Different heads of keys: fewer than the call has where a model repeats them for its queries before the call."""
        key = call.site.name, call.turn
        if key not in self._groups:
            own = call.key if call.key is not None else call.value
            assert own is not None
            heads = own[0].detach()
            found = 1 + int((heads[1:] != heads[:-1]).flatten(1).any(1).sum())
            self._groups[key] = found if call.shape[1] % found == 0 else len(heads)
        return self._groups[key]

    def measured_share(self) -> float | None:
        """Share of the denominator removed since the last `at`; None where nothing ran, or at level 0."""
        return None if not self._level or not self.tally.pairs else self.tally.removed

    def cost(self, level: float) -> Cost:
        """As counted at that level; before anything ran there, the planned pairs only."""
        tally = self._tallies.get(level)
        shares = Shares(pairs=1 - level) if not tally or not tally.pairs else tally.shares()
        return Cost(level, layout="attention", facts=dict(self.facts), shares=Shares() if level == 0 else self._of_all(shares))

    def _of_all(self, shares: Shares) -> Shares:
        """Shares of all calls: those that stay dense have 1. A call weighs its heads times their width, as if all were of one length."""

        def part(weight: Callable[[AttentionPlace], int]) -> float:
            return sum(map(weight, self.places.values())) / sum(map(weight, self.found))

        pairs, keys = part(lambda place: place.heads * (place.width or 1)), part(lambda place: place.groups * (place.width or 1))
        return replace(
            shares, pairs=1 - pairs * (1 - shares.pairs), overhead_pairs=pairs * shares.overhead_pairs,
            overhead_keys=keys * shares.overhead_keys,
            keys_read=1 - keys * (1 - shares.keys_read), keys_held=1 - keys * (1 - shares.keys_held),
        )  # fmt: skip


def softmax_over(pattern: Pattern, mask: Tensor) -> Tensor:
    """[heads, n, n]: softmax of the logits over the pairs of ``mask`` bool [heads, n, n], learned sinks beside them; 0 elsewhere.

    A mask of everything allowed gives the model's own attention. Rows that may see nothing are 0.
    """
    import torch

    out = ~mask
    logits, sink = pattern.logits.masked_fill(out, EXCLUDED), pattern.call.sink
    if sink is not None:
        logits = torch.cat([logits, sink[0].float().expand(pattern.heads, pattern.n, -1)], -1)
    return logits.softmax(-1)[..., : pattern.n].masked_fill_(out, 0.0)


def _at_least_one(mask: Tensor, pattern: Pattern) -> Tensor:
    """``mask`` bool [heads, n, n] with a key for every query that may see any: itself, else the one with the largest logit."""
    import torch

    none = ~mask.any(-1)
    if not bool(none.any()):
        return mask
    own = torch.eye(pattern.n, dtype=torch.bool, device=mask.device) & pattern.allowed
    best = torch.zeros_like(mask).scatter_(-1, pattern.logits.argmax(-1, keepdim=True), True) & pattern.allowed
    return mask | (none[..., None] & torch.where(own.any(-1, keepdim=True), own, best))
