"""What does each head's pattern look like, what would a few keys, a low rank or a shorter span lose, and which heads are redundant?

1. Find the attention of the model by running it once, and choose a few windows, from as many documents as possible.
2. Per window: one forward pass in which the whole pattern of one place at a time is made, measured and let go.
3. Where there is a loss: one backward pass per window, for what shorter spans of causal heads would cost.
4. Average over the windows in their order; words (class, shape), trees and pairs are made of the means.

Sources: METHODS C2, C3, C6, C8, C13, C15, C16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.attention.needs import needs_inputs
from analysis.attention.patterns_figures import draw_alike, draw_classes, draw_methods, draw_recall, draw_shapes
from analysis.attention.patterns_tables import TABLES
from analysis.spec import Analysis, Figure, IncompatibleSubject, Source, setting


@dataclass(frozen=True, kw_only=True)
class HeadPatternsConfig:
    """Settings of `head_patterns`."""

    windows: int = setting(
        4, help="Windows whose whole patterns are looked at, from as many documents as possible", unit="windows", ge=1, le=256
    )
    n_tokens: int = setting(2048, help="Tokens to choose these windows from", unit="tokens", ge=2, le=10**9)
    window: int = setting(256, help="Length of a text window; windows never cross documents", unit="tokens", ge=4, le=131072)
    longest: int = setting(
        512, help="Tokens of a window that are looked at: longer texts are cropped, longer images passed over", unit="tokens", ge=4, le=4096
    )
    seed: int = setting(0, help="Seed of the choice of windows", ge=0, le=2**31 - 1)
    budget: float = setting(0.125, help="Keys per query that patterns may keep, as a share of the window", unit="share", ge=0.001, le=0.5)
    block: int = setting(16, help="Width of the blocks of block-sparse patterns and of spans", unit="tokens", ge=1, le=256)
    share: float = setting(
        0.8, help="Attention that a simple pattern must hold for a head to be called by it", unit="share", ge=0.5, le=1.0
    )
    even: float = setting(0.95, help="Entropy over that of equal weights from which a head is called uniform", unit="share", ge=0.5, le=1.0)
    gain: float = setting(0.5, help="Gain from which a head that stays within blocks is called block-diagonal", ge=0.0, le=1.0)
    near: float = setting(0.3, help="Distance up to which heads are clustered as redundant: square root of JS / ln 2", ge=0.0, le=1.0)
    tolerance: float = setting(
        0.01, help="Increase of the loss that a shorter span may cost", unit="loss per scored position", ge=0.0, le=100.0
    )
    elements: int = setting(
        2**19, help="Logits made at a time: speed and memory, no number", unit="logits", ge=2**10, le=2**30, result=False
    )


def run(config: HeadPatternsConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables: windows, then what spans cost, then the places, then pairs over places."""
    from analysis.attention.observing import attention_places
    from analysis.attention.patterns_observing import Asked, arrays_of, observe_window, span_numbers
    from analysis.attention.patterns_pairs import elsewhere_rows
    from analysis.attention.patterns_results import Measured

    subject = inputs["model"]
    data, chosen = _chosen(subject.data, config)
    places = [p for p in attention_places(replace(subject, data=data)) if not p.crosses]
    asked = Asked(config.budget, config.block, config.longest, config.elements)
    one = {str(i): replace(subject, data=data.only(chosen[i : i + 1])) for i in range(len(chosen))}
    for name in work.units(list(one), what="looking at windows"):
        work.save_state(observe_window(one[name], places, asked))
    for name in work.units(list(one), what="asking for spans"):
        work.save_state(span_numbers(one[name], places, asked, config.block))
    seen, spans = (dict(work.states(what)) for what in ("looking at windows", "asking for spans"))
    every = []
    for i, place in enumerate(places):
        windows = [arrays_of(seen.get(name, {}), i) | arrays_of(spans.get(name, {}), i) for name in one]
        if windows := [w for w in windows if "recall" in w]:
            every.append(Measured(place, windows))
    if not every:
        raise IncompatibleSubject(_nothing(subject, config))
    work.facts |= _facts(subject, config, data, chosen, len(places), every)
    for name in work.units([str(i) for i in range(len(every))], what="writing places"):
        yield from _place(every[int(name)], config, asked)
    for _ in work.units(["pairs"], what="comparing places"):
        kept: dict[tuple[int, int, int, int], float] = {}
        for i in range(len(every)):
            if rows := elsewhere_rows(i, every, kept):
                yield "head_pairs", rows


def _nothing(subject: Any, config: HeadPatternsConfig) -> str:
    return (
        f"some attention of {subject.label} must look from tokens at the same tokens, 4 to {config.longest:,} of them, got none such; "
        "give longer windows, or raise longest."
    )


def _place(seen: Any, config: HeadPatternsConfig, asked: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from analysis.attention import patterns_results as results
    from analysis.attention.patterns_pairs import within_rows

    rules = results.Rules(config.share, config.even, config.gain, config.near, config.tolerance)
    found = results.head_rows(seen, rules, asked, config.block)
    yield "pattern_layers", results.layer_row(seen, found)
    yield "head_patterns", found
    yield "head_budgets", results.budget_rows(seen, asked)
    if (spans := results.span_rows(seen, config.block)) is not None:
        yield "head_spans", spans
    yield "head_pairs", within_rows(seen)
    yield "head_merges", results.merge_rows(seen, config.near)


def _chosen(data: Any, config: HeadPatternsConfig) -> tuple[Any, Any]:
    """The data, text cropped to the longest that is looked at, and which windows."""
    from analysis.attention.examples import chosen_windows

    chosen = chosen_windows(data, config.windows, config.seed)
    if data.token_ids is not None and data.token_ids.shape[1] > config.longest:
        cropped = {name: getattr(data, name)[:, : config.longest] for name in ("token_ids", "special")}
        data = replace(data, **cropped, fingerprint="")
    return data, chosen


def _facts(subject: Any, config: HeadPatternsConfig, data: Any, chosen: Any, n_places: int, every: Sequence[Any]) -> dict[str, Any]:
    """What only running can tell."""
    import numpy as np

    before = subject.data.token_ids
    facts: dict[str, Any] = {
        "n_windows": len(chosen),
        "n_documents": len(np.unique(data.document[chosen])),
        "windows": [int(w) for w in chosen],
        "tokens": max(seen.n for seen in every),
        "heads": sum(seen.place.heads for seen in every),
        "places": len(every),
        "places_passed_over": n_places - len(every),
        "left_out": "padding; queries that see no key, from means over queries; cross-attention; the first query of causal heads where "
        "heads are compared",
        "spans": "predicted" if any(seen.mean("spans") is not None for seen in every) else "no causal head, or no loss to differentiate",
    }
    if before is not None and before.shape[1] > config.longest:
        facts["cropped"] = f"windows of {before.shape[1]:,} tokens to their first {config.longest:,}"
    return facts


HEAD_PATTERNS = Analysis(
    slug="head_patterns",
    title="Attention patterns and redundant heads",
    question="What does each head's pattern look like, what would few keys, a low rank or a short span lose, and which heads are alike?",
    version=2,
    kind="dynamic",
    sources=(
        Source("MInference 1.0 (classes; candidates scaled to short windows)", "Jiang et al., NeurIPS 2024, arXiv 2407.02490", "C"),
        Source("What a head looks like: names of simple patterns", "our own operational choices", "O"),
        Source("MoA: Mixture of Sparse Attention (influence, spans)", "Fu et al. 2024, arXiv 2406.14909", "C"),
        Source("AdaSpa (recall of blocks by their sum)", "Xia et al. 2025, arXiv 2502.21079", "3"),
        Source("HiP: hierarchically pruned attention", "Lee et al. 2024, arXiv 2406.09827", "C"),
        Source("Zero-TPrune (weighted page rank)", "Wang et al., CVPR 2024, arXiv 2305.17328", "3"),
        Source("Scatterbrain (sparse and low-rank error)", "Chen et al., NeurIPS 2021, arXiv 2110.15343", "C"),
        Source("Disagreement of heads as implemented by Michel et al.", "Li et al., EMNLP 2018; Michel et al., NeurIPS 2019", "C"),
        Source("EfficientViT (largest similarity of head features)", "Liu et al., CVPR 2023", "K"),
    ),
    config=HeadPatternsConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("shapes", "What each head looks like", "head_patterns", draw_shapes),
        Figure("classes", "Heads by pattern", "pattern_layers", draw_classes),
        Figure("recall", "Attention that each class keeps", "head_patterns", draw_recall),
        Figure("methods", "Few keys, low rank, and both", "head_budgets", draw_methods),
        Figure("alike", "The most similar head of the same layer", "head_patterns", draw_alike),
    ),
    needs=needs_inputs("head_patterns", "looks at patterns"),
)
