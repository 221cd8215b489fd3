"""Interventions on tokens of models that see all of them, one file each; `METHODS` is the table of contents.

Keys and values that decoders evict (H2O, Keyformer, ALISA, sinks and a window) are in the attention family.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

from analysis.interventions.entry import Entry
from analysis.interventions.spec import Intervention
from analysis.interventions.tokens import papers
from analysis.spec import Source


def _make(where: str, seed: int) -> Intervention:
    module, name = where.split(".")
    return getattr(import_module(f"analysis.interventions.tokens.{module}"), name)(seed=seed)


_LINES: tuple[tuple[str, str, str, Source], ...] = (
    ("token-attention", "received.ReceivedAttention", "Drop the tokens that are looked at least.", papers.POWER_BERT),
    ("token-class-attention", "received.ClassAttention", "Drop the tokens that the first one looks at least.", papers.EVIT),
    ("zero-tprune", "zero_tprune.ZeroTPrune", "Drop the tokens that important tokens look at least (page rank).", papers.ZERO_TPRUNE),
    (
        "zero-tprune-similar", "zero_tprune.ZeroTPruneSimilar", "Drop the less important tokens that are most like a more important one.",
        papers.ZERO_TPRUNE,
    ),
    ("token-merging", "merging.Merging", "Average the tokens whose keys are most alike.", papers.TOME),
    ("token-random", "random_tokens.RandomTokens", "Drop tokens at random: what any choice must beat.", papers.RANDOM),
)  # fmt: skip
METHODS: tuple[Entry, ...] = tuple(
    Entry(slug, line, "tokens", "smaller dense model", partial(_make, where), (source,), needs_causal=False)
    for slug, where, line, source in _LINES
)
"""In the order they are offered."""
