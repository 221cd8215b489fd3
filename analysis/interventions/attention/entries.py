"""Attention's lines of the catalogue."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import NamedTuple

from analysis.interventions.attention import papers
from analysis.interventions.entry import Entry, RunsOn
from analysis.interventions.spec import Intervention
from analysis.spec import Source


class _Line(NamedTuple):
    slug: str
    where: str
    """Module and class."""
    runs_on: RunsOn
    line: str
    sources: tuple[Source, ...]
    causal: bool | None = None
    default: bool = True


def _make(where: str, seed: int) -> Intervention:
    module, name = where.split(".")
    return getattr(import_module(f"analysis.interventions.attention.{module}"), name)(seed=seed)


_LINES = (
    _Line("attention-topk", "top_k.TopK", "nothing", "Keep the keys with the largest logits of each query.", (papers.TOP_K,)),
    _Line("sink-window", "sink_window.SinkWindow", "gathers", "Keep the first keys and the latest ones.", (papers.STREAMING,)),
    _Line(
        "attention-blocks", "blocks.Blocks", "blocks", "Keep the tiles of keys whose mean logit is largest for each tile of queries.",
        (papers.MINFERENCE, papers.SEER),
    ),
    _Line("h2o", "h2o.HeavyHitters", "gathers", "Keep the latest keys and those attended to most; evict the rest.", (papers.H2O,), True),
    _Line(
        "attention-threshold", "threshold.Threshold", "nothing", "Remove attention weights below one size for the whole model.",
        (papers.ONE_SIZE,), default=False,
    ),
    _Line(
        "zipvl", "mass.Mass", "gathers", "Keep the fewest tokens that hold a share of the attention so far.", (papers.ZIPVL,),
        default=False,
    ),
    _Line(
        "keyformer", "keyformer.Keyformer", "gathers", "Evict as H2O does, with noise in the scores and a temperature that rises.",
        (papers.KEYFORMER,), True, False,
    ),
    _Line(
        "alisa", "alisa.SparseWindow", "gathers", "Keep the latest keys and those that the latest queries looked at most.",
        (papers.ALISA,), True, False,
    ),
    _Line(
        "double-sparsity", "channels.Channels", "gathers", "Keep the keys with the largest logits as a few channels show them.",
        (papers.DOUBLE,), default=False,
    ),
    _Line(
        "hip", "hierarchy.Halving", "gathers", "Keep the keys that halving ranges of them finds.", (papers.HIP,), default=False,
    ),
    _Line(
        "attention-random", "random_keys.RandomKeys", "gathers", "Keep keys at random: what any choice must beat.",
        (papers.RANDOM_KEYS, papers.SSA), default=False,
    ),
    _Line(
        "minference", "head_patterns.HeadPatterns", "gathers",
        "Keep sinks and a window, columns and diagonals, or blocks, whichever suits the head.", (papers.MINFERENCE,), default=False,
    ),
    _Line("moa", "spans.Spans", "gathers", "Give each head a span as short as a gradient says it may be.", (papers.MOA,), True, False),
    _Line(
        "low-rank-attention", "low_rank.LowRank", "smaller dense model", "Replace the softmax by random features.", (papers.SCATTERBRAIN,),
        default=False,
    ),
    _Line(
        "scatterbrain", "low_rank.SparseLowRank", "gathers", "Keep sinks and a window exactly, and random features for the rest.",
        (papers.SCATTERBRAIN,), default=False,
    ),
)  # fmt: skip
ENTRIES = tuple(
    Entry(one.slug, one.line, "attention", one.runs_on, partial(_make, one.where), one.sources, one.causal, one.default) for one in _LINES
)
"""In the order they are offered."""
