"""How long what a head moves is: |v W_O| of every key, |z| and |z W_O| of every query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.capture.attention import AttentionCall
from analysis.capture.attention_places import AttentionPlace, projection_of
from analysis.capture.running import unwrapped

if TYPE_CHECKING:
    from torch import Tensor


class Lengths:
    """Lengths behind the output projection of a model's heads; the projections are read once."""

    def __init__(self, model: Any) -> None:
        self._model = unwrapped(model)
        self._grams: dict[str, Tensor | None] = {}

    def of(self, place: AttentionPlace, call: AttentionCall) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """|v W_O| [windows, heads, keys], |z| and |z W_O| [windows, heads, queries]; None each where it could not be had."""
        batch, heads, queries, keys = call.shape
        output, value = call.output, call.value
        good = output is not None and output.shape[:3] == (batch, heads, queries)
        gram = self._gram(place, output.shape[-1]) if good and output is not None else None
        z = output.float() if good and output is not None else None
        head = None if z is None else z.norm(dim=-1)
        moved = None
        if gram is not None and value is not None and value.shape[2] == keys and heads % value.shape[1] == 0:
            moved = _through(value.float().repeat_interleave(heads // value.shape[1], 1), gram)
        return moved, head, None if z is None or gram is None else _through(z, gram)

    def _gram(self, place: AttentionPlace, width: int) -> Tensor | None:
        """W_O W_O^T by head [heads, width, width]: what lengths after the projection need."""
        if place.site.name not in self._grams:
            weight = projection_of(self._model, place, width)
            self._grams[place.site.name] = None if weight is None else weight @ weight.transpose(1, 2)
        return self._grams[place.site.name]


def _through(x: Tensor, gram: Tensor) -> Tensor:
    """|x W| [batch, heads, rows] of x [batch, heads, rows, d], from gram = W W^T [heads, d, d]."""
    return ((x @ gram) * x).sum(-1).clamp_(min=0).sqrt_()
