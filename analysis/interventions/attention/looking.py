"""Looking at the dense model's patterns on the calibration batches, for methods that measure before they choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.capture.attention_session import capture_attention
from analysis.capture.running import hooked
from analysis.interventions.attention.pattern import Pattern, pattern_of
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.capture.attention import AttentionCall
    from analysis.capture.attention_places import AttentionPlace
    from analysis.interventions.attention.base import HeldAttention

EXAMPLES = 16
"""Looked at, at most."""


def look(held: HeldAttention, told: Callable[[tuple[str, int], Pattern], Any], examples: int = EXAMPLES) -> None:
    """Run the dense model on calibration batches; ``told(place, pattern)`` of each of the first examples, at level 0."""
    observer = _Told(held.places, told)
    sites = list({place.site.name: place.site for place in held.places.values()}.values())
    left = examples
    with capture_attention(held.model, sites, observer) as session:
        for batch in held.batches:
            observer.examples, observer.largest = left, 0
            session.run(batch)
            left -= observer.largest
            if left <= 0:
                return


class _Told:
    """Hands over patterns."""

    def __init__(self, places: Mapping[tuple[str, int], AttentionPlace], told: Callable[[tuple[str, int], Pattern], Any]) -> None:
        self._places, self._told = places, told
        self.examples = self.largest = 0

    def attention(self, call: AttentionCall) -> None:
        """One call."""
        key = call.site.name, call.turn
        batch, _, n, keys = call.shape
        if key not in self._places or n != keys:
            return
        rows = call.real_queries()
        self.largest = max(self.largest, batch)
        for example in range(min(batch, self.examples)):
            real = None if rows is None or bool(rows[example].all()) else rows[example]
            if real is None or bool(real.any()):
                self._told(key, pattern_of(call, self._places[key], example, real, 0.0))


def slopes(held: HeldAttention, told: Callable[[tuple[str, int], Pattern, Tensor], Any], examples: int) -> None:
    """As `look`, with dL/dA [heads, n, n] of each pattern: L is the mean of -log p of the model's own answers (METHODS C3).

    From the gradient of the heads' outputs: dL/dA = dL/dz . v. Raises `IncompatibleSubject` where nothing can be differentiated.
    """
    kept: list[AttentionCall] = []
    observer = _Keeps(held.places, kept)
    sites = list({place.site.name: place.site for place in held.places.values()}.values())
    handle = held.model.register_forward_pre_hook(_with_gradients)
    with hooked([handle]), capture_attention(held.model, sites, observer) as session:
        for one in _one_by_one(held.batches, examples):
            kept.clear()
            output = session.run(one)
            for call, slope in _differentiated(output, kept):
                _tell(held, call, slope, told)


def _with_gradients(*_: Any) -> None:
    """On, inside the session that has turned them off and will put back what was before."""
    import torch

    torch.set_grad_enabled(True)


class _Keeps:
    """Keeps every call of the places."""

    def __init__(self, places: Mapping[tuple[str, int], AttentionPlace], kept: list[AttentionCall]) -> None:
        self._places, self._kept = places, kept

    def attention(self, call: AttentionCall) -> None:
        """One call."""
        if (call.site.name, call.turn) in self._places and call.shape[2] == call.shape[3] and call.value is not None:
            self._kept.append(call)


def _one_by_one(batches: Sequence[Any], examples: int) -> Iterator[Any]:
    """The first examples as batches of one."""
    import torch

    for batch in batches:
        named = isinstance(batch, Mapping)
        parts = batch.values() if named else batch
        size = next(part.shape[0] for part in parts if isinstance(part, torch.Tensor))
        for i in range(size):
            if not examples:
                return
            examples -= 1
            row = [part[i : i + 1] if isinstance(part, torch.Tensor) and part.ndim and part.shape[0] == size else part for part in parts]
            yield dict(zip(batch, row, strict=True)) if named else tuple(row)


def _differentiated(output: Any, calls: Sequence[AttentionCall]) -> list[tuple[AttentionCall, Tensor]]:
    """Calls with the gradient of their outputs."""
    import torch

    from analysis.tasks.objectives import answer_of

    with torch.enable_grad():
        own = answer_of(output).float().log_softmax(-1).amax(-1).neg().mean()
    if not own.requires_grad:
        raise IncompatibleSubject("spans must be found by gradients, got a model without any; choose a method that needs none.")
    found = torch.autograd.grad(own, [call.output for call in calls if call.output is not None], allow_unused=True)
    return [(call, slope) for call, slope in zip(calls, found, strict=True) if slope is not None]


def _tell(held: HeldAttention, call: AttentionCall, slope: Tensor, told: Callable[[tuple[str, int], Pattern, Tensor], Any]) -> None:
    import torch

    key = call.site.name, call.turn
    rows = call.real_queries()
    real = None if rows is None or bool(rows[0].all()) else rows[0]
    with torch.no_grad():
        pattern = pattern_of(call, held.places[key], 0, real, 0.0)
        assert pattern.call.value is not None
        value = pattern.call.value[0].float()
        given = (slope[0] if real is None else slope[0][:, real]).float()
        told(key, pattern, given @ value.repeat_interleave(pattern.heads // len(value), 0).transpose(1, 2))
