"""Contextual sparsity with a predictor: what the FFN reads names the neurons before any of them is run.

    score_tj = |a_tj| |W_down[:, j]|_2 / |.|_2 of the token;   predicted = mean_j + ((x_t - mu) / sigma) E V^T,  E [d, r], V [f, r]

1. On sampled tokens of the calibration split, ridge regression of the scores on x in its dual form (tokens x tokens).
2. Its fit is reduced to rank r by a truncated SVD with a fixed seed: V its right singular vectors, E the regression onto them.
3. Per token the k = f - floor(s f) highest predictions run; recall against the true top k is in the cost's facts.

Spares all three matrices; the predictor's FLOPs, 2 r (d + f), and its bytes are counted. The source trains the same two low-rank layers by
weighted cross-entropy for one label; least squares on scores serves all levels with one fit. Source: METHODS B10 (Deja Vu).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.interventions.activations.base import Changed, Rule, Seen, Setting, masked
from analysis.interventions.activations.contextual import ContextualOracle, Oracle, column_norms, recall
from analysis.interventions.activations.observing import observe
from analysis.interventions.activations.topk import largest, n_kept
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Site

ROWS = 1024
"""Tokens a predictor is fitted on."""
RIDGE = 0.1
"""Of the mean diagonal of the tokens' products."""


@dataclass(frozen=True)
class Predictor:
    """Of one FFN."""

    mu: Tensor
    sigma: Tensor
    encoder: Tensor
    """[d, r]."""
    decoder: Tensor
    """[r, f]."""
    mean: Tensor
    """[f]."""

    def __call__(self, x: Tensor) -> Tensor:
        """Scores [n, f] of rows [n, d]."""
        return self.mean + ((x.float() - self.mu) / self.sigma) @ self.encoder @ self.decoder

    @classmethod
    def fit(cls, x: Tensor, scores: Tensor, rank: int) -> Predictor:
        """Steps 1 and 2, of x [T, d] and scores [T, f]."""
        import torch

        mu, sigma, mean = x.mean(0), x.std(0, unbiased=False), scores.mean(0)
        sigma = torch.where(sigma > 0, sigma, 1.0)
        z, y = (x - mu) / sigma, scores - mean
        products = z @ z.T
        ridge = RIDGE * products.diagonal().mean() + torch.finfo(torch.float32).eps
        dual = torch.linalg.solve(products + ridge * torch.eye(len(z), device=z.device), y)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            _, _, v = torch.svd_lowrank(products @ dual, q=min(rank, *y.shape), niter=2)
        return cls(mu, sigma, z.T @ (dual @ v), v.T.contiguous(), mean)


class Predicted(Oracle):
    """Runs what is predicted."""

    def __init__(
        self, norms: Mapping[str, Tensor], level: float, predictors: Mapping[str, Predictor], source_of: Mapping[str, str]
    ) -> None:
        super().__init__(norms, level)
        self._predictors, self._source_of = predictors, source_of
        self._sources = frozenset(source_of.values())
        self._x: dict[str, Tensor] = {}
        self._recall, self._n = 0.0, 0

    @contextmanager
    def passing(self) -> Iterator[None]:
        """What was read is forgotten behind the pass."""
        try:
            yield
        finally:
            self._x.clear()

    def change(self, seen: Seen) -> Changed:
        """Note what an FFN reads; zero what was not predicted. An FFN that the calibration never reached runs in full."""
        import torch

        name = seen.site.name
        if name in self._sources:
            self._x[name] = seen.values
            return Changed(seen.values, seen.values.new_empty(0, seen.values.shape[-1], dtype=torch.bool))
        if name not in self._predictors:
            return masked(seen.values, torch.ones_like(seen.values, dtype=torch.bool))
        scores = self._predictors[name](self._x[self._source_of[name]])
        named = largest(scores, n_kept(scores.shape[-1], self._level))
        self._recall += float(recall(named, self.true(seen)).sum())
        self._n += len(named)
        return Changed(masked(seen.values, named).values, named)

    def facts(self) -> Mapping[str, Any]:
        """Recall so far."""
        return {"recall": self._recall / self._n} if self._n else {}


@dataclass(frozen=True)
class ContextualPredicted(ContextualOracle):
    """The neurons that a low-rank predictor names."""

    rank: int = 64

    name = "contextual-predicted"
    words = "FFN neurons a low-rank predictor names"
    skips = ("gate", "up", "down")
    calibrated = True
    wanted = "FFNs whose input can be found"

    @property
    def slug(self) -> str:
        """With its rank, where it is not the usual one."""
        return self.name if self.rank == ContextualPredicted.rank else f"{self.name}-rank-{self.rank}"

    def sites(self, model: nn.Module, example: Any) -> list[Site]:
        """FFNs, and what the matrix in front of each reads."""
        from analysis.capture import find_sites

        every = find_sites(model, example)
        sources = {(site.weight, site.expert): site for site in every if site.kind == "matrix" and site.role == "input"}
        found: list[Site] = []
        for site in every:
            source = sources.get((site.producers[-1], site.expert)) if self.counts(site) and site.producers else None
            found += [] if source is None else [source, site]
        if not found:
            raise IncompatibleSubject(f"{self.name} must be given a model with {self.wanted}, got none; choose another intervention.")
        return found

    def counts(self, site: Site) -> bool:
        """Sources are only read."""
        return site.kind == "ffn"

    def overhead(self, model: nn.Module, site: Site) -> float:
        """The predictor, and a selection: 3 an entry."""
        return 2.0 * self.rank * (_d_in(model, site) + (site.width or 0)) + 3.0 * (site.width or 0)

    def overhead_bytes(self, model: nn.Module, site: Site) -> float:
        """The predictor's weights in float32."""
        return 4.0 * self.rank * (_d_in(model, site) + (site.width or 0))

    def prepare(self, setting: Setting) -> Callable[[float], Rule]:
        """Fit one predictor to each FFN."""
        norms = column_norms(setting, [site for site in setting.sites if self.counts(site)])
        source_of = {two.name: one.name for one, two in zip(setting.sites[::2], setting.sites[1::2])}
        setting.facts |= {"rank": self.rank, "rows": ROWS, "ridge": RIDGE}

        def made() -> dict[str, Predictor]:
            return {name: Predictor.fit(x, y, self.rank) for name, (x, y) in _pairs(setting, source_of, norms).items()}

        predictors = setting.once(("predictors", self.rank, tuple(source_of)), made)
        return lambda level: Predicted(norms, level, predictors, source_of)


def _d_in(model: nn.Module, site: Site) -> int:
    shape = model.get_parameter(site.producers[-1]).shape
    return shape[-2] if site.transposed else shape[-1]


def _pairs(setting: Setting, source_of: Mapping[str, str], norms: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """By FFN: sampled x [T, d] and its tokens' scores [T, f]."""
    import torch

    each = -(-ROWS // len(setting.batches))
    read: dict[str, Tensor] = {}
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def look(seen: Seen) -> None:
        name, values = seen.site.name, seen.values
        if name not in source_of:
            read[name] = values
            return
        at = torch.linspace(0, len(values) - 1, min(each, len(values)), device=values.device).round().long()
        scores = values[at].float().abs() * norms[name]
        size = scores.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        found.setdefault(name, []).append((read[source_of[name]][at].float(), scores / size))

    observe(setting, look)
    return {name: (torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])) for name, parts in found.items()}
