"""How well rows x [T, d] are reconstructed by x_hat [T, d]: explained variance, cosine, shrinkage, from sums that merge.

1. `Fidelity.update` adds a block of rows to float64 sums, by document; `merge` adds another part of the stream.
2. `result` reads every measure off the sums. How the stream was cut into blocks and parts changes nothing but rounding.

Measures that other programs take batch by batch cannot be had so: `BatchwiseFidelity` keeps them apart, for comparison only.
Source: METHODS D3.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.stats.number import Number

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
_SUMS = ("n", "square", "square_hat", "square_error", "product", "norm", "norm_hat", "ratio", "n_ratio", "cosine", "n_cosine")
CONSTANT = 1e-12
"""Variance over mean square at and below which rows count as constant: what is left of it is rounding."""
NO_VARIANCE = "the activations are constant, so there is no variance to explain"


@dataclass
class Fidelity:
    """Sums over rows, by document; O(documents * d). Made by `empty`."""

    sums: Floats
    """[D, 11], the columns of `_SUMS`."""
    sum_x: Floats
    """[D, d]."""
    sum_error: Floats
    """[d], of x - x_hat."""

    @classmethod
    def empty(cls, n_documents: int, width: int) -> Fidelity:
        """Nothing seen yet, of documents numbered from 0."""
        return cls(np.zeros((n_documents, len(_SUMS))), np.zeros((n_documents, width)), np.zeros(width))

    def update(self, x: Tensor, x_hat: Tensor, document: NDArray[np.int64]) -> None:
        """Take in rows x and x_hat [T, d] of these documents [T]; values are widened to float64 before anything is squared."""
        if x.shape != x_hat.shape or x.shape != (len(document), self.sum_x.shape[1]):
            raise ValueError(
                f"x and x_hat must be [{len(document)}, {self.sum_x.shape[1]}] (rows, width), got {list(x.shape)} and {list(x_hat.shape)}."
            )
        wide, hat = x.detach().double().cpu().numpy(), x_hat.detach().double().cpu().numpy()
        error = wide - hat
        square, square_hat, product = ((a * b).sum(1) for a, b in ((wide, wide), (hat, hat), (wide, hat)))
        norm, norm_hat = np.sqrt(square), np.sqrt(square_hat)
        has, both = norm > 0, (norm > 0) & (norm_hat > 0)
        ratio = norm_hat / np.where(has, norm, 1.0)
        cosine = product / np.where(both, norm * norm_hat, 1.0)
        columns = (
            np.ones(len(wide)), square, square_hat, (error * error).sum(1), product, norm, norm_hat,
            np.where(has, ratio, 0.0), has, np.where(both, cosine, 0.0), both,
        )  # fmt: skip
        np.add.at(self.sums, document, np.stack(columns, axis=1))
        np.add.at(self.sum_x, document, wide)
        self.sum_error += error.sum(0)

    def merge(self, other: Fidelity) -> None:
        """Take in what another one saw of the same documents; no row may have been seen by both."""
        if self.sum_x.shape != other.sum_x.shape:
            raise ValueError(f"both must be [documents, width] {self.sum_x.shape}, got {other.sum_x.shape}; make them alike.")
        for name, values in other.arrays().items():
            getattr(self, name).__iadd__(values)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state by name, as `of_arrays` takes it."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Fidelity:
        """Back from `arrays`."""
        return cls(**{entry.name: arrays[entry.name].copy() for entry in fields(cls)})

    # ---- giving out ---------------------------------------------------------------------------------------------------

    def by_document(self, name: str) -> Floats:
        """One of `_SUMS` of each document [D]."""
        return self.sums[:, _SUMS.index(name)]

    @property
    def n(self) -> int:
        """Rows seen."""
        return int(self.by_document("n").sum())

    @property
    def mean(self) -> Floats:
        """Per-dimension mean of x [d] over all rows seen."""
        return self.sum_x.sum(0) / max(1, self.n)

    def deviations(self) -> Floats:
        """sum_t |x_t - mean|^2 of each document [D], about the mean of the whole set; zeros where the rows are constant."""
        square = self.by_document("square")
        found = square - 2 * self.sum_x @ self.mean + self.by_document("n") * (self.mean @ self.mean)
        return np.zeros(len(found)) if found.sum() <= CONSTANT * square.sum() else np.maximum(found, 0.0)

    def fvu(self) -> Number:
        """sum_t |x_t - x_hat_t|^2 / sum_t |x_t - mean|^2, mean over the whole set per dimension: 0 perfect, 1 as good as the mean.

        No unit, 0 to infinity. Interval over documents with the mean held fixed. Source: METHODS D3.
        """
        error, spread = self.by_document("square_error"), self.deviations()
        if not self.n:
            return Number.missing("no token was seen")
        if not spread.sum():
            return Number.missing(NO_VARIANCE)
        interval = Number.ratio(error, spread)
        return Number(float(error.sum() / spread.sum()), interval.low, interval.high, interval.why)

    def result(self) -> dict[str, Number]:
        """Every measure by name.

        fvu, explained_variance = 1 - fvu; explained_variance_centred = 1 - sum_d Var(e_d) / sum_d Var(x_d), which forgives a constant
        error; mse, sum over d and mean over tokens, mse_per_element over both; cosine, mean cos(x, x_hat) where neither is zero;
        l2_norm_in, l2_norm_out; l2_ratio, mean |x_hat| / |x| where x is not zero; relative_reconstruction_bias
        E|x_hat|^2 / E<x, x_hat>, below 1 where reconstructions shrink (gated SAE paper, eq. 10).
        """
        error, n, fvu, width = self.by_document("square_error"), self.by_document("n"), self.fvu(), self.sum_x.shape[1]
        aligned = float(self.by_document("product").sum())
        return {
            "explained_variance": fvu.one_minus(),
            "fvu": fvu,
            "explained_variance_centred": self._centred(),
            "mse": Number.ratio(error, n),
            "mse_per_element": Number.ratio(error, n * width),
            "cosine": Number.ratio(self.by_document("cosine"), self.by_document("n_cosine"), "every reconstruction is the zero vector"),
            "l2_norm_in": Number.ratio(self.by_document("norm"), n),
            "l2_norm_out": Number.ratio(self.by_document("norm_hat"), n),
            "l2_ratio": Number.ratio(self.by_document("ratio"), self.by_document("n_ratio"), "every activation is the zero vector"),
            "relative_reconstruction_bias": Number(float(self.by_document("square_hat").sum()) / aligned)
            if aligned > 0
            else Number.missing("reconstructions do not point along the activations"),
        }

    def _centred(self) -> Number:
        spread = self.deviations().sum()
        if not self.n or not spread:
            return Number.missing(NO_VARIANCE if self.n else "no token was seen")
        constant = float(self.sum_error @ self.sum_error) / self.n
        return Number(1 - (float(self.by_document("square_error").sum()) - constant) / float(spread))

    def older_explained_variance(self) -> Number:
        """1 - mse / (E|x|^2 - (mean_d E[x_d^2])^2), for comparison only: what the evaluation scripts of SAELens (2025-10) and SAEBench
        (2026-05) print; sae-lens 6.54 has it right. Any value, above 1 too. Source: METHODS D3."""
        if not self.n:
            return Number.missing("no token was seen")
        square, error = (float(self.by_document(name).sum()) / self.n for name in ("square", "square_error"))
        spread = square - (square / self.sum_x.shape[1]) ** 2
        return Number(1 - error / spread) if spread else Number.missing("that formula's variance is 0 here")


@dataclass
class BatchwiseFidelity:
    """What other programs take batch by batch and then average over tokens: it depends on the batches, so they are part of the answer."""

    n: int = 0
    legacy: float = 0.0
    mse_twice: float = 0.0
    n_constant: int = 0

    def update(self, x: Tensor, x_hat: Tensor) -> None:
        """Take in one whole batch [T, d]."""
        wide, hat = x.detach().double(), x_hat.detach().double()
        error = (wide - hat).square().sum(1)
        spread = (wide - wide.mean(0)).square().sum(1)
        self.n += len(wide)
        self.n_constant += int((spread == 0).sum())
        self.legacy += float((1 - error / spread)[spread > 0].sum())
        self.mse_twice += float(error.sum()) / max(1, len(wide))

    def merge(self, other: BatchwiseFidelity) -> None:
        """Take in other batches."""
        for entry in fields(self):
            setattr(self, entry.name, getattr(self, entry.name) + getattr(other, entry.name))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state by name."""
        return {entry.name: np.array(getattr(self, entry.name)) for entry in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> BatchwiseFidelity:
        """Back from `arrays`."""
        return cls(**{entry.name: arrays[entry.name].item() for entry in fields(cls)})

    def result(self) -> dict[str, Number]:
        """explained_variance_legacy, mean over tokens of 1 - |e_t|^2 / |x_t - batch mean|^2, tokens that equal their batch's mean left out;
        mse_divided_twice, mean over tokens of |e_t|^2 / tokens of the batch."""
        if not self.n:
            return dict.fromkeys(("explained_variance_legacy", "mse_divided_twice"), Number.missing("no token was seen"))
        counted = self.n - self.n_constant
        legacy = Number(self.legacy / counted) if counted else Number.missing(NO_VARIANCE)
        return {"explained_variance_legacy": legacy, "mse_divided_twice": Number(self.mse_twice / self.n)}
