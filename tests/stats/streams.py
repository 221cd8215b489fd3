"""Made-up streams of activations for the accumulator tests, and a brute-force account of the same stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from analysis.stats.activity import relative_contribution
from analysis.stats.neurons import NeuronActivity
from analysis.stats.rows import Rows, rows_of_windows


@dataclass
class Stream:
    """A whole stream in one block: rows, values, scale, gate, up, and each document's number of windows."""

    rows: Rows
    values: torch.Tensor
    scale: np.ndarray
    gate: torch.Tensor
    up: torch.Tensor
    document_windows: np.ndarray
    weight: np.ndarray

    def site(self, engine: str = "auto", **settings) -> NeuronActivity:
        """An empty accumulator for it."""
        settings = {"top": 6, "bottom": 3, "sample_windows": 4, "gini_tokens": 20, "seed": 7, "has_gate": True} | settings
        rule = relative_contribution(self.weight, 0.05)
        return NeuronActivity(self.values.shape[1], rule=rule, document_windows=self.document_windows, engine=engine, threads=2, **settings)

    def feed(self, site: NeuronActivity, index: np.ndarray) -> None:
        """Update with some of the rows, in the order given."""
        take = torch.from_numpy(np.asarray(index))
        site.update(self.rows.take(index), self.values[take], scale=self.scale[index], gate=self.gate[take], up=self.up[take])


SHAPES = {
    "normal": lambda rng, shape: rng.normal(0.1, 0.3, shape),
    "relu": lambda rng, shape: np.maximum(rng.normal(-0.5, 1, shape), 0),
    "heavy": lambda rng, shape: rng.standard_t(1.2, shape),
    "far": lambda rng, shape: rng.normal(1000, 1, shape),
    "ties": lambda rng, shape: rng.integers(-2, 3, shape) / 2,
    "broken": lambda rng, shape: np.where(rng.random(shape) < 0.004, rng.choice([np.nan, np.inf, -np.inf], shape), rng.normal(0, 1, shape)),
}


def make_stream(kind: str = "normal", n: int = 150, length: int = 13, seed: int = 0, dtype: torch.dtype = torch.float32) -> Stream:
    """Four documents of 1 to 5 windows of unequal length; few different tokens, so that examples repeat."""
    rng = np.random.default_rng(seed)
    document_windows = np.array([3, 1, 5, 2])
    documents = np.repeat(np.arange(4), document_windows)
    windows = len(documents)
    present = np.arange(length) < rng.integers(length // 2, length + 1, windows)[:, None]
    rows = rows_of_windows(rng.integers(0, 2, (windows, length)), np.arange(windows), documents, present=present)
    shape = (len(rows), n)
    values, gate, up = (torch.from_numpy(SHAPES[kind](rng, shape)).to(dtype) for _ in range(3))
    if kind != "broken":
        values[:, 0] = 0.0  # a dead neuron
    scale = np.abs(rng.normal(3, 1, len(rows))) + 0.5
    scale[3] = 0.0
    weight = np.abs(rng.normal(1, 0.3, n)).astype(np.float32)
    return Stream(rows, values, scale, gate, up, document_windows, weight)


EXACT_KINDS = "biu"
SUMMED = ("sum", "square", "mean", "variance", "skewness", "kurtosis")


def assert_same(a: dict, b: dict) -> None:
    """Counts, extremes, examples, samples and histograms equal; moments and sums to 1e-10 relative."""
    assert a.keys() == b.keys()
    for name in a:
        if a[name].dtype.kind in EXACT_KINDS or not any(word in name for word in SUMMED):
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        else:
            # Higher moments can cancel to nearly zero; what is relative is then the unit they are measured in.
            np.testing.assert_allclose(
                a[name], b[name], rtol=1e-10, atol=1e-10 if "skew" in name or "kurt" in name else 1e-14, err_msg=name
            )
