"""How sparse latents f [T, F] are: how many are active on a token, how often each one is, and which never are.

1. `LatentActivity.update` takes whole windows of rows; only the entries that are not zero are looked at, so time goes with L0, not F.
2. Counts are integers and the same however the windows were divided among blocks and parts; sums are float64.

A latent is active where it is not exactly zero (METHODS D2). Bounds and classes are those of neurons: `intervals.activity_class`, with
documents as the unit of every guaranteed statement. Memory: O(F * 515) for histograms, O(T F) for a block while it is taken in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.stats.firing import ACTIVE, Documents
from analysis.stats.histogram import N_BINS, bin_index
from analysis.stats.number import Number

if TYPE_CHECKING:
    from torch import Tensor

Ints = NDArray[np.int64]
_COUNTS = ("n_active", "windows_active")
_TOKEN_SUMS = ("n", "l0", "l1")


@dataclass
class LatentActivity:
    """The accumulator of F latents; made by `empty`."""

    counts: Ints
    """[2, F]: tokens and windows each latent was active on."""
    total: NDArray[np.float64]
    """[F]: sum of |f|."""
    high: NDArray[np.float32]
    """[F]: largest |f|; 0 for a silent one."""
    histogram: NDArray[np.int32]
    """[F, 515]: values that are not zero (`histogram.bin_index`)."""
    n_together: Ints
    """[F + 1]: tokens on which so many latents were active."""
    by_document: NDArray[np.float64]
    """[D, 3]: tokens, active latents, sum of |f|."""
    n_windows: int
    documents: Documents

    @classmethod
    def empty(cls, n_latents: int, document_windows: ArrayLike) -> LatentActivity:
        """Nothing seen yet; document_windows [D]: how many windows each document has in all."""
        windows = np.array(document_windows, np.int64)
        f = n_latents
        return cls(
            np.zeros((len(_COUNTS), f), np.int64), np.zeros(f), np.zeros(f, np.float32), np.zeros((f, N_BINS), np.int32),
            np.zeros(f + 1, np.int64), np.zeros((len(windows), len(_TOKEN_SUMS))), 0, Documents.empty(f, windows),
        )  # fmt: skip

    @property
    def n_latents(self) -> int:
        """F."""
        return len(self.total)

    # ---- taking in ----------------------------------------------------------------------------------------------------

    def update(self, latents: Tensor, window: Ints, document: Ints) -> None:
        """Take in latents [T, F] of these windows and documents [T]; a window's rows must all come at once.

        Windows of which no row is left (all masked) are told by `skip`, so that their documents become complete.
        """
        import torch

        if latents.shape != (len(window), self.n_latents):
            raise ValueError(f"latents must be [{len(window)}, {self.n_latents}] (rows, latents), got {list(latents.shape)}.")
        rows, which = torch.nonzero(latents.detach(), as_tuple=True)
        values = latents.detach()[rows, which].float()
        self.take(rows.cpu().numpy(), which.cpu().numpy(), values.cpu().numpy(), window, document)

    def take(self, rows: Ints, which: Ints, values: NDArray[np.float32], window: Ints, document: Ints) -> None:
        """The same from the entries that are not zero: row, latent and value of each; window and document of every row [T]."""
        if len(window) != len(document):
            raise ValueError(f"window and document must be of the same rows, got {len(window)} and {len(document)}.")
        size = np.abs(values).astype(np.float64)
        self._add_latents(which, values, size)
        together = np.bincount(rows, minlength=len(window))
        self.n_together += np.bincount(together, minlength=self.n_latents + 1)
        l1 = np.bincount(rows, weights=size, minlength=len(window))
        np.add.at(self.by_document, document, np.stack([np.ones(len(window)), together, l1], axis=1))
        self._add_windows(np.asarray(window), np.asarray(document), rows, which)

    def _add_latents(self, which: Ints, values: NDArray[np.float32], size: NDArray[np.float64]) -> None:
        self.counts[0] += np.bincount(which, minlength=self.n_latents)
        self.total += np.bincount(which, weights=size, minlength=self.n_latents)
        np.maximum.at(self.high, which, np.abs(values))
        places, n = np.unique(which * N_BINS + bin_index(values), return_counts=True)
        self.histogram.reshape(-1)[places] += n.astype(np.int32)

    def _add_windows(self, window: Ints, document: Ints, rows: Ints, which: Ints) -> None:
        different, first, place = np.unique(window, return_index=True, return_inverse=True)
        fired = np.zeros((len(different), self.n_latents), np.uint8)
        fired[place[rows], which] = ACTIVE
        self.counts[1] += fired.sum(0, dtype=np.int64)
        self.n_windows += len(different)
        for number, where in enumerate(first):
            self.documents.add(int(document[where]), 1, fired[number])

    def skip(self, document: ArrayLike) -> None:
        """Windows without a row, one entry of their document [W] each."""
        for one in np.asarray(document, np.int64).tolist():
            self.documents.add(one, 1, None)

    def merge(self, other: LatentActivity) -> None:
        """Take in what another one saw of other windows."""
        if self.histogram.shape != other.histogram.shape or self.by_document.shape != other.by_document.shape:
            raise ValueError(f"both must be of as many latents and documents, got {self.n_latents} and {other.n_latents} latents.")
        for name in ("counts", "total", "histogram", "n_together", "by_document"):
            getattr(self, name).__iadd__(getattr(other, name))
        np.maximum(self.high, other.high, out=self.high)
        self.n_windows += other.n_windows
        self.documents.merge(other.documents)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state by name; most bins of most latents are empty, so only the others are kept."""
        names = ("counts", "total", "high", "n_together", "by_document")
        places = np.flatnonzero(self.histogram)
        found = {name: getattr(self, name) for name in names} | {"n_windows": np.array(self.n_windows)}
        found |= {"places": places, "in_bin": self.histogram.reshape(-1)[places]}
        return found | {f"documents/{name}": values for name, values in self.documents.arrays().items()}

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> LatentActivity:
        """Back from `arrays`."""
        documents = Documents.of_arrays({name.partition("/")[2]: v for name, v in arrays.items() if name.startswith("documents/")})
        f = len(arrays["total"])
        histogram = np.zeros((f, N_BINS), np.int32)
        histogram.reshape(-1)[arrays["places"]] = arrays["in_bin"]
        copied = {name: arrays[name].copy() for name in ("counts", "total", "high", "n_together", "by_document")}
        return cls(**copied, histogram=histogram, n_windows=int(arrays["n_windows"]), documents=documents)

    # ---- giving out ---------------------------------------------------------------------------------------------------

    @property
    def n_tokens(self) -> int:
        """Rows seen."""
        return int(self.n_together.sum())

    @property
    def n_active(self) -> Ints:
        """[F]: tokens each latent was active on."""
        return self.counts[0]

    @property
    def density(self) -> NDArray[np.float64]:
        """[F]: n_active / tokens, 0 to 1."""
        return self.n_active / max(1, self.n_tokens)

    def l0(self) -> Number:
        """Latents active on a token, mean over tokens; 0 to F. Source: METHODS D2."""
        return Number.ratio(self.by_document[:, 1], self.by_document[:, 0])

    def l1(self) -> Number:
        """sum_i |f_i|, mean over tokens; 0 and up. Source: METHODS D2 (libraries leave the absolute value out)."""
        return Number.ratio(self.by_document[:, 2], self.by_document[:, 0])

    def l0_quantile(self, q: float) -> int:
        """The smallest L0 that at least a share q of the tokens do not exceed; q from 0 to 1."""
        if not self.n_tokens:
            raise ValueError("a quantile must be taken of at least one token, got none; update first.")
        return int(np.searchsorted(self.n_together.cumsum(), max(1, np.ceil(q * self.n_tokens - 1e-9))))

    def result(self) -> dict[str, NDArray[Any]]:
        """Per latent [F]: n_active, windows_active, documents_active, density, mean_active (0 where silent) and max of |f|, and
        activations_per_window, tokens over windows with any (SAELens' consistent activation heuristic; 0 where silent)."""
        n, windows = self.counts
        fired = self.documents.result()
        return {
            "n_active": n.copy(),
            "windows_active": windows.copy(),
            "documents_active": fired["documents_active"],
            "density": self.density,
            "mean_active": self.total / np.maximum(n, 1),
            "max": self.high.astype(np.float64),
            "activations_per_window": n / np.maximum(windows, 1),
        }


def missed(density: float, n_tokens: int) -> float:
    """(1 - q)^T: how likely a latent active on a share q of independent tokens is silent on all of T. Source: METHODS D2."""
    return float((1 - density) ** n_tokens)


def density_counts(density: ArrayLike) -> dict[str, float]:
    """Shares of latents by density, as dashboards and SAEBench count them: active on any token, below 1e-5 and 1e-6, above 0.01 and 0.1;
    and the shares of all activations that the latter two give ("mass"; 0 where nothing is active). Source: METHODS D2."""
    q = np.asarray(density, np.float64)
    mass = max(float(q.sum()), np.finfo(float).tiny)
    return {
        "frac_alive": float((q > 0).mean()),
        "below_1e-5": float((q < 1e-5).mean()),
        "below_1e-6": float((q < 1e-6).mean()),
        "freq_over_1_percent": float((q > 0.01).mean()),
        "freq_over_10_percent": float((q > 0.1).mean()),
        "mass_over_1_percent": float(q[q > 0.01].sum() / mass),
        "mass_over_10_percent": float(q[q > 0.1].sum() / mass),
    }


def log10_density(density: ArrayLike) -> NDArray[np.float64]:
    """log10(d + 1e-10), as density histograms of SAEs are drawn: -10 for a silent latent. Source: METHODS D2."""
    return np.log10(np.asarray(density, np.float64) + 1e-10)
