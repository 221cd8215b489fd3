"""From a model's weights to the rows of `head_weights`, place by place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from analysis.attention.observing import kind_of
from analysis.attention.value_weights import ValueWeights, value_weights
from analysis.capture.attention_places import AttentionPlace, find_attention, projection_of
from analysis.capture.running import unwrapped
from analysis.neurons.directions import Directions, Lens, end_of, lens_of
from analysis.neurons.look import Look, look_at
from analysis.spec import IncompatibleSubject
from analysis.stats.decoder import lens_tokens
from analysis.stats.ov_directions import OvDirections, ov_directions

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.attention.head_weights import HeadWeightsConfig

Rows = dict[str, Any]
INSTEAD = "neuron_weights and head_sparsity can still be run."


def place_name(place: AttentionPlace) -> str:
    """What a place is called as a unit of work."""
    return f"{place.site.name}#{place.turn}"


class HeadReading:
    """A model read for `head_weights`: its places with attention, what makes their values, the unembedding and the embedding."""

    def __init__(self, subject: Any, config: HeadWeightsConfig) -> None:
        self._subject, self._config, self._model = subject, config, unwrapped(subject.model)
        batch = subject.probe_batch()
        self.all_places = find_attention(subject.model, batch, names=subject.hook_names())
        if not self.all_places:
            raise IncompatibleSubject(
                f"{subject.label} must have softmax attention, got {kind_of(subject.model)}: there are no heads whose weights could be "
                "read; neuron_weights and weight_sparsity can still be run."
            )
        unembedding = end_of(self._model, "output")
        if unembedding is None:
            raise IncompatibleSubject(
                f"{subject.label} must have an unembedding, got {type(self._model).__name__}, which has none to say which tokens a head "
                f"promotes; {INSTEAD}"
            )
        self._values = value_weights(subject, batch, self.all_places)
        self._look = self._looked([unembedding[0], *(v.reader.weight for v in self._values.values() if v.reader.weight)])
        self._lens = self._read_by()
        self._embedding = end_of(self._model, "input")
        self._embedded: dict[tuple[bool, bool], Tensor] = {}
        self.why_not = {p.site.hook_name: why for p in self.all_places if (why := self._why_not(p)) is not None}
        self.places = [p for p in self.all_places if p.site.hook_name not in self.why_not]
        if not self.places:
            raise IncompatibleSubject(
                f"{subject.label} must have heads whose values and output are plain products with weights, got none "
                f"({next(iter(self.why_not.values()))}); {INSTEAD}"
            )
        pieces = subject.token_pieces()
        self._pieces = None if pieces is None else pa.array(pieces, pa.string())

    def _looked(self, more: list[str]) -> Look:
        try:
            return look_at(self._subject, more)
        except IncompatibleSubject as error:
            raise IncompatibleSubject(
                f"{self._subject.label} must have neurons to try the unembedding with, got a model without any; head_sparsity can still be "
                "run."
            ) from error

    def _read_by(self) -> Lens:
        found = lens_of(self._model, self._look, Directions(self._model, self._look))
        if isinstance(found, str):
            raise IncompatibleSubject(f"{self._subject.label} must have an unembedding that reads what heads write: {found}")
        return found

    def _why_not(self, place: AttentionPlace) -> str | None:
        value = self._values.get(place.site.name)
        if place.site.stream != self._lens.stream:
            return "what it writes is in another stream of tokens than the unembedding reads"
        if value is None:
            return "its values are not at once what a stored matrix gives"
        output = projection_of(self._model, place, value.width)
        if output is None:
            return "what its heads give is not read at once by a stored matrix"
        if output.shape[2] != self._lens.weight.shape[1]:
            return f"it writes {output.shape[2]:,} numbers, and the unembedding reads {self._lens.weight.shape[1]:,}"
        return None

    # -----------------------------------------------------------------------------------------------------------------

    def rows(self, name: str, report: Callable[[float], None]) -> Iterator[tuple[str, Rows]]:
        """All rows of one place."""
        place = next(p for p in self.places if place_name(p) == name)
        value = self._values[place.site.name]
        into, output = value.by_head(self._model, place.heads), projection_of(self._model, place, value.width)
        assert output is not None
        found = [ov_directions(into[h], output[h], self._config.directions) for h in range(place.heads)]
        where = _Where(place, found)
        if not where.n:
            return
        report(0.3)
        yield (
            "heads_ov",
            where.columns(1)
            | {
                "energy_share": np.concatenate([d.energy.cpu().numpy() for d in found]).clip(0, 1),
                "singular_value": where.value,
            },
        )
        yield from self._token_rows(place, value, where, report)

    def _token_rows(self, place: AttentionPlace, value: ValueWeights, where: _Where, report: Callable[[float], None]) -> Iterator[Any]:
        k, lens = self._config.top_tokens, self._lens
        scaled = (where.written * where.written.new_tensor(where.value)[:, None]).float()
        written = lens_tokens(lens.folded(scaled), lens.weight, k, centred=False)
        for side, best in (("promoted", written.promoted), ("suppressed", written.suppressed)):
            yield "head_tokens", self._tokens(where, side, *best)
        report(0.6)
        if not self._reads_tokens(place, value):
            return
        norm = self._look.norm_before(value.reader)
        read = where.read.float() if norm is None else where.read.float() * norm.gain
        excited = lens_tokens(read, self._embedding_through(norm), k, centred=False)
        for side, best in (("read", excited.promoted), ("reversed", excited.suppressed)):
            yield "head_tokens", self._tokens(where, side, *best)

    def _reads_tokens(self, place: AttentionPlace, value: ValueWeights) -> bool:
        width = value.by_head(self._model, place.heads).shape[1]
        return self._embedding is not None and not place.crosses and self._embedding[1].shape[1] == width

    def _embedding_through(self, norm: Any) -> Tensor:
        """The embedding [vocabulary, d] as the norm gives it, gain and bias left out; as it is where there is no norm."""
        assert self._embedding is not None
        key = norm is not None, norm is not None and norm.centred
        if key not in self._embedded:
            rows = self._embedding[1].float()
            self._embedded[key] = rows if norm is None else norm.normalised(rows)
        return self._embedded[key]

    def _tokens(self, where: _Where, side: str, score: np.ndarray, token: np.ndarray) -> Rows:
        k, ids = score.shape[1], token.ravel()
        return where.columns(k) | {
            "side": pa.repeat(side, len(ids)),
            "rank": np.tile(np.arange(k), where.n),
            "token_id": ids,
            "token": pa.nulls(len(ids)) if self._pieces is None else self._pieces.take(pa.array(ids)),
            "score": score.ravel(),
        }

    def facts(self) -> dict[str, Any]:
        """What could be read, and why something could not."""
        norms = {n.path for p in self.places if (n := self._look.norm_before(self._values[p.site.name].reader)) is not None}
        return {
            "heads": sum(p.heads for p in self.places),
            "places": len(self.places),
            "promoted_and_suppressed": f"read by {self._lens.path}",
            "final_norm": None if self._lens.norm is None else self._lens.norm.path,
            "norms_before_values": sorted(norms),
            "places_without_tokens_read": [
                p.site.hook_name for p in self.places if not self._reads_tokens(p, self._values[p.site.name])
            ],
            "places_left_out": self.why_not,
        }  # fmt: skip


class _Where:
    """The directions of all heads of a place in one list, and the columns that say whose they are."""

    def __init__(self, place: AttentionPlace, found: list[OvDirections]) -> None:
        import torch

        self._place = place
        self._head = np.concatenate([np.full(len(d.value), h) for h, d in enumerate(found)]).astype(np.int64)
        self._direction = np.concatenate([np.arange(len(d.value)) for d in found])
        self.value = torch.cat([d.value for d in found]).cpu().numpy()
        self.read, self.written = (torch.cat(list(parts)) for parts in zip(*((d.read, d.written) for d in found), strict=True))
        self.n = len(self.value)

    def columns(self, k: int) -> Rows:
        """The key of k rows for each direction."""
        n, site = self.n * k, self._place.site
        return {
            "layer": np.full(n, site.layer), "hook_name": pa.repeat(site.hook_name, n), "turn": np.full(n, self._place.turn),
            "head": np.repeat(self._head, k), "direction": np.repeat(self._direction, k),
        }  # fmt: skip
