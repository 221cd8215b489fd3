"""Sealed runs of `head_sparsity` on tiny models: heads that look where they are told to, a decoder beside its encoder, shared layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.attention.head_sparsity import HEAD_SPARSITY, HeadSparsityConfig
from analysis.models import TextWindows, subject_from
from store import RunInfo, Store
from tests import zoo
from tests.once import run_once


def text(n_windows: int = 4, window: int = 64, vocabulary: int = 60, documents: int = 2) -> TextWindows:
    """Seeded tokens."""
    ids = np.random.default_rng(0).integers(0, vocabulary, (n_windows, window))
    return TextWindows.from_ids(ids, document=np.arange(n_windows) * documents // n_windows)


def sealed(store: Store, model: Any, data: Any, name: str) -> RunInfo:
    """A run on a model made here, in a second or two."""
    return run_once(HEAD_SPARSITY, {"model": subject_from(model, name=name, data=data)}, HeadSparsityConfig(), store)


def make_heads(store: Store, family: str = "llama", name: str | None = None) -> RunInfo:
    """A seeded model of the zoo; decoders read windows of 64 tokens, the others their own batch."""
    model, batch = zoo.ZOO[family]()
    return sealed(store, model, text() if family == "llama" else [batch], name or family)


def make_patterns(store: Store, family: str = "llama", name: str | None = None) -> RunInfo:
    """`head_patterns` of the same model on the same windows."""
    from analysis.attention.head_patterns import HEAD_PATTERNS, HeadPatternsConfig

    model, batch = zoo.ZOO[family]()
    data = text() if family == "llama" else [batch]
    return run_once(HEAD_PATTERNS, {"model": subject_from(model, name=name or family, data=data)}, HeadPatternsConfig(windows=2), store)


def make_examples(store: Store, family: str = "llama", name: str | None = None) -> RunInfo:
    """`head_examples` of the same model on the same windows."""
    from analysis.attention.head_examples import HEAD_EXAMPLES, HeadExamplesConfig

    model, batch = zoo.ZOO[family]()
    data = text() if family == "llama" else [batch]
    config = HeadExamplesConfig(n_tokens=256, window=64)
    return run_once(HEAD_EXAMPLES, {"model": subject_from(model, name=name or family, data=data)}, config, store)


def make_weights(store: Store, family: str = "llama", name: str | None = None) -> RunInfo:
    """`head_weights` of the same model."""
    from analysis.attention.head_weights import HEAD_WEIGHTS, HeadWeightsConfig

    model, batch = zoo.ZOO[family]()
    return run_once(HEAD_WEIGHTS, {"model": subject_from(model, name=name or family, data=[batch])}, HeadWeightsConfig(), store)
