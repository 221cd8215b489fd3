"""What a dictionary is compared with at equal L0: principal components, and random directions. Fitted on other documents.

1. `Fit` adds up means and second moments over the calibration and choice documents, and estimates the dictionary's L0 there.
2. `pca` keeps as many components as the dictionary has latents active; `random_directions` as many of equally many random directions.

Source: METHODS D8 (equal L0); these two rivals are our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

PCA, RANDOM, LEARNED, SAE = "pca", "random directions", "dictionary learning", "sae"
OUTSIZED = 10.0
"""Times the median norm, beyond which a token counts as outsized (massive activations). Ours."""
PIECE = 2**23
"""Numbers of gathered directions held at once."""


@dataclass
class Fit:
    """Sums over rows of the fitting documents."""

    n: int
    n_active: int
    """Latents active, summed over rows."""
    total: NDArray[np.float64]
    """[d]."""
    product: NDArray[np.float64]
    """[d, d]."""
    sample: list[NDArray[np.float32]] = field(default_factory=list)

    @classmethod
    def empty(cls, width: int) -> Fit:
        """Nothing seen yet."""
        return cls(0, 0, np.zeros(width), np.zeros((width, width)))

    def update(self, rows: Tensor, n_active: int, n_sample: int) -> None:
        """Take in rows [n, d] on which so many latents were active; up to ``n_sample`` of them, spread evenly, go into the sample."""
        wide = rows.double()
        self.n, self.n_active = self.n + len(rows), self.n_active + n_active
        self.total += wide.sum(0).cpu().numpy()
        self.product += (wide.T @ wide).cpu().numpy()
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(n_sample, len(rows))).astype(int)) if len(rows) else []
        self.sample.append(rows.cpu().numpy()[chosen].astype(np.float32))

    def merge(self, other: Fit) -> None:
        """Take in other rows."""
        self.n, self.n_active, self.sample = self.n + other.n, self.n_active + other.n_active, self.sample + other.sample
        self.total += other.total
        self.product += other.product

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state by name."""
        found = {name: np.asarray(getattr(self, name)) for name in ("n", "n_active", "total", "product")}
        return found | {"sample": np.concatenate(self.sample) if self.sample else np.zeros((0, len(self.total)), np.float32)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Fit:
        """Back from `arrays`."""
        return cls(int(arrays["n"]), int(arrays["n_active"]), arrays["total"].copy(), arrays["product"].copy(), [arrays["sample"]])

    @property
    def mean(self) -> Tensor:
        """[d], float32."""
        import torch

        return torch.from_numpy(self.total / max(1, self.n)).float()

    @property
    def l0(self) -> float:
        """Latents active per row."""
        return self.n_active / max(1, self.n)

    @property
    def usual(self) -> float:
        """Norm up to which a token is of usual size: `OUTSIZED` times the median norm of the sample."""
        rows = np.concatenate(self.sample)
        return OUTSIZED * float(np.median(np.linalg.norm(rows.astype(np.float64), axis=1))) if len(rows) else float("inf")

    @property
    def rank(self) -> int:
        """L0 as a whole number of components, 1 to the width."""
        return int(np.clip(round(self.l0), 1, len(self.total)))


@dataclass(frozen=True)
class Rival:
    """Something else that reconstructs rows about a mean: `pca`, or `random_directions`."""

    name: str
    mean: Tensor
    """[d]"""
    rows: Tensor
    """[F, d], of length 1."""
    n_active: int
    """Directions used for each row."""

    def encode(self, x: Tensor) -> Tensor:
        """Weights [n, F] of its directions; all of them where n_active is F, else of the best few, by least squares."""
        import torch

        centred = x.float() - self.mean.to(x.device)
        score = centred @ self.rows.T.to(x.device)
        if self.n_active >= len(self.rows):
            return score
        found = torch.zeros_like(score)
        step = max(1, PIECE // (self.n_active * self.rows.shape[1]))
        for part in range(0, len(x), step):
            here = slice(part, part + step)
            best = score[here].abs().topk(self.n_active, dim=1).indices
            chosen = self.rows.to(x.device)[best]  # [n, k, d]
            gram = chosen @ chosen.mT
            gram.diagonal(dim1=1, dim2=2).add_(1e-6)  # of two equal directions the weight is shared
            weights = torch.linalg.solve(gram, (chosen @ centred[here, :, None])).squeeze(2)
            found[here] = found[here].scatter(1, best, weights)
        return found

    def decode(self, latents: Tensor) -> Tensor:
        """[n, d]."""
        return latents @ self.rows.to(latents.device) + self.mean.to(latents.device)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights, and what they stand for."""
        weights = self.encode(x)
        return weights, self.decode(weights)


def pca(fit: Fit) -> Rival:
    """The components of largest variance about the mean, as many as the dictionary has latents active."""
    import torch

    middle = fit.total / max(1, fit.n)
    covariance = torch.from_numpy(fit.product / max(1, fit.n) - np.outer(middle, middle))
    vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, : fit.rank]
    return Rival(PCA, fit.mean, vectors.T.float().contiguous(), fit.rank)


def random_directions(fit: Fit, n: int, seed: int) -> Rival:
    """``n`` random directions; for each row the most aligned ones, as many as the dictionary has latents active, by least squares."""
    import torch

    made = torch.randn(n, len(fit.total), generator=torch.Generator().manual_seed(seed))
    return Rival(RANDOM, fit.mean, torch.nn.functional.normalize(made, dim=1), min(fit.rank, n))
