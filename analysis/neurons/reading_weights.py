"""From a model's weights to the rows of `neuron_weights`, site by site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from analysis.capture.site import Site
from analysis.neurons.directions import Directions, Lens, end_of, lens_of
from analysis.neurons.link_tables import bins_of
from analysis.neurons.links import Comparable, site_columns
from analysis.neurons.look import Norm, look_at
from analysis.stats.nearest import blocks_of, spread, top, unit_rows

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.neurons.neuron_weights import NeuronWeightsConfig

Rows = dict[str, Any]


class Reading:
    """A model read for `neuron_weights`: sites, directions, lens, embedding, and which sites can be compared."""

    def __init__(self, subject: Any, config: NeuronWeightsConfig) -> None:
        model = subject.model
        unembedding, self._embedding = end_of(model, "output"), end_of(model, "input")
        look = look_at(subject, [unembedding[0]] if unembedding else [])
        self.sites = look.sites
        self._config, self._subject = config, subject
        self._directions = Directions(model, look)
        self._lens = lens_of(model, look, self._directions)
        self._embedded: dict[tuple[bool, bool], Tensor] = {}
        self._by_name = {site.name: site for site in self.sites}
        self._comparable = {by: self._comparables(by) for by in ("output weights", "input weights")}
        pieces = subject.token_pieces()
        self._pieces = None if pieces is None else pa.array(pieces, pa.string())

    def rows(self, name: str, report: Callable[[float], None]) -> Iterator[tuple[str, Rows]]:
        """All rows of one site."""
        site = self._by_name[name]
        found: dict[str, float | int | None] = {c: None for c in ("cosine_output", "cosine_input", "logit_std", "logit_kurtosis")}
        yield from self._token_rows(site, found)
        report(0.5)
        for i, by in enumerate(self._comparable):
            end = by.partition(" ")[0]
            found[f"n_without_{end}"] = self._without(site, by)
            comparable = next((c for c in self._comparable[by] if site in c.sites), None)
            if comparable is None:
                continue
            links = comparable.links(site, self._config.top_neurons)
            if len(links.best):
                found[f"cosine_{end}"] = float(np.median(links.best))
            n = len(links.neuron)
            yield "neuron_similar", links.rows(site, comparable.sites) | {"by": pa.repeat(by, n), "cosine": links.value}
            bins = bins_of(links.best)
            yield "similarity_bins", site_columns(site, len(bins["low"])) | {"by": [by] * len(bins["low"])} | bins
            report(0.75 + 0.25 * i)
        found["n_neurons"] = site.width
        yield "weight_layers", {"layer": [site.layer], "hook_name": [site.hook_name]} | {c: [v] for c, v in found.items()}

    def facts(self) -> dict[str, Any]:
        """What could be read, and why something could not."""
        lens, embedding = self._lens, self._embedding
        through = {s.hook_name: norm.path for s in self.sites if (norm := self._directions.norm_before(s)) is not None}
        driven = [s.hook_name for s in self.sites if self._drives(s)]
        missing = {by: [s.hook_name for s in self.sites if self._direction(by, s) is None] for by in self._comparable}
        return {
            "n_neurons": sum(int(site.width or 0) for site in self.sites),
            "sites": len(self.sites),
            "promoted_and_suppressed": lens if isinstance(lens, str) else f"read by {lens.path}",
            "final_norm": None if isinstance(lens, str) or lens.norm is None else lens.norm.path,
            "driving": self._why_not_driving() if not driven else f"embedded by {embedding[0] if embedding else ''}",
            "norms_before_neurons": sorted(set(through.values())),
            "sites_without_a_norm_before": [s.hook_name for s in self.sites if s.hook_name not in through],
            "sites_without_output_weights": missing["output weights"],
            "sites_without_input_weights": missing["input weights"],
            "hook_names": self._subject.hook_reason or "TransformerLens' names",
        }

    # -----------------------------------------------------------------------------------------------------------------
    # Tokens

    def _token_rows(self, site: Site, found: dict[str, Any]) -> Iterator[tuple[str, Rows]]:
        lens, out = self._lens, self._directions.out(site)
        if isinstance(lens, Lens) and out is not None and self._is_read(site, out):
            sides, measured = self._through(lens.folded(out), lens.weight, ("promoted", "suppressed"))
            yield from (("neuron_tokens", self._tokens(site, side, *best)) for side, best in sides.items())
            std, skewness, kurtosis = measured
            found["logit_std"] = float(np.median(std))
            varied = std > 0
            found["logit_kurtosis"] = float(np.median(kurtosis[varied])) if varied.any() else None
            yield (
                "neuron_lens",
                site_columns(site, len(std))
                | {
                    "neuron": np.arange(len(std)),
                    "logit_std": std,
                    "logit_skewness": pa.array(skewness, mask=~varied),
                    "logit_kurtosis": pa.array(kurtosis, mask=~varied),
                },
            )
        into = self._directions.into(site)
        if into is not None and self._drives(site):
            norm = self._directions.norm_before(site)
            sides, _ = self._through(into if norm is None else into * norm.gain, self._embedding_through(norm), ("driving",))
            yield "neuron_tokens", self._tokens(site, "driving", *sides["driving"])

    def _through(self, directions: Tensor, vocabulary: Tensor, sides: tuple[str, ...]) -> tuple[dict[str, Any], Any]:
        """The strongest tokens of each direction on each side, and how the scores are spread where both sides are asked for."""
        parts: dict[str, list[Any]] = {side: [] for side in sides}
        measured = []
        for part in blocks_of(len(directions), len(vocabulary)):
            scores = directions[part] @ vocabulary.T
            if len(sides) > 1:
                measured.append([m.cpu().numpy() for m in spread(scores)])
            for side in sides:
                sign = -1.0 if side == "suppressed" else 1.0
                value, token = top(scores.neg_() if sign < 0 else scores, self._config.top_tokens)
                parts[side].append((value.mul_(sign).cpu().numpy(), token.cpu().numpy()))
        best = {side: tuple(np.concatenate(column) for column in zip(*found)) for side, found in parts.items()}
        return best, [np.concatenate(column) for column in zip(*measured)]

    def _tokens(self, site: Site, side: str, score: np.ndarray, token: np.ndarray) -> Rows:
        """Rows of `neuron_tokens` from the best [width, k] of one side; neurons without any effect have none."""
        k = score.shape[1]
        alive = np.flatnonzero((score != 0).any(1))
        ids = token[alive].ravel()
        return site_columns(site, len(ids)) | {
            "neuron": np.repeat(alive, k),
            "side": pa.repeat(side, len(ids)),
            "rank": np.tile(np.arange(k), len(alive)),
            "token_id": ids,
            "token": pa.nulls(len(ids)) if self._pieces is None else self._pieces.take(pa.array(ids)),
            "score": score[alive].ravel().astype(np.float64),
        }

    def _is_read(self, site: Site, out: Tensor) -> bool:
        lens = self._lens
        return isinstance(lens, Lens) and site.stream == lens.stream and out.ndim == 2 and out.shape[1] == lens.weight.shape[1]

    def _drives(self, site: Site) -> bool:
        into = self._directions.into(site)
        return self._embedding is not None and into is not None and into.ndim == 2 and into.shape[1] == self._embedding[1].shape[1]

    def _why_not_driving(self) -> str:
        if self._embedding is None:
            return f"{type(self._subject.model).__name__} has no embedding of tokens, so there are no driving tokens."
        return f"no neuron reads vectors as wide as the embedding {self._embedding[0]}, so there are no driving tokens."

    def _embedding_through(self, norm: Norm | None) -> Tensor:
        """The embedding [vocabulary, d] at root mean square 1, centred where the norm centres; as it is where there is no norm."""
        assert self._embedding is not None
        key = (norm is not None, norm is not None and norm.centred)
        if key not in self._embedded:
            rows = self._embedding[1].float()
            self._embedded[key] = rows if norm is None else norm.normalised(rows)
        return self._embedded[key]

    # -----------------------------------------------------------------------------------------------------------------
    # Similar neurons

    def _direction(self, by: str, site: Site) -> Tensor | None:
        return self._directions.out(site) if by == "output weights" else self._directions.into(site)

    def _comparables(self, by: str) -> list[Comparable]:
        """Groups of sites whose directions lie in vectors of one shape and follow the same token stream."""
        groups: dict[Any, list[Site]] = {}
        for site in self.sites:
            direction = self._direction(by, site)
            if direction is not None:
                groups.setdefault((site.stream, direction.shape[1:]), []).append(site)

        def make(site: Site) -> tuple[Tensor, np.ndarray]:
            direction = self._direction(by, site)
            assert direction is not None
            rows, has = unit_rows(direction.flatten(1))
            return rows[has], has.nonzero().squeeze(1).cpu().numpy()

        return [Comparable(sites, make) for sites in groups.values()]

    def _without(self, site: Site, by: str) -> int | None:
        direction = self._direction(by, site)
        return None if direction is None else int((direction.flatten(1) == 0).all(1).sum())
