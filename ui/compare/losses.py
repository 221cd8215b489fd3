"""The loss of two models: on the same documents with the paired interval of the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from analysis.stats.paired import Difference, Resample, difference
from store import RunInfo
from ui import data
from ui.compare.section import Pair, Value, side_by_side
from ui.words import count, plain


@dataclass(frozen=True)
class PairedLoss:
    """One minus the other on the same documents, per position."""

    gap: Difference
    n_documents: int
    note: str
    """Empty, or why the interval is rough or none."""


def losses(pairs: Sequence[Pair], _closer: Pair | None) -> None:
    """Losses side by side, and of every comparable pair the interval of the difference."""
    rows = summary_rows(pairs)
    side_by_side(rows, pairs, key="losses", alt="One row per number: loss, perplexity and accuracy of each model, and the difference.")
    for pair in pairs:
        if not pair.reasons and pair.run.id != pair.base.id:
            st.markdown(_words(pair))


def summary_rows(pairs: Sequence[Pair]) -> list[tuple[str, Mapping[str, Value], bool]]:
    """Rows of the table, from the summaries."""
    runs = {pairs[0].first.letter: pairs[0].base} | {pair.side.letter: pair.run for pair in pairs}
    here = {letter: next(iter(run.summaries.get("loss_summary", ())), {}) for letter, run in runs.items()}
    names = (("loss", "loss, nats per position", False), ("perplexity", "perplexity", False), ("accuracy", "accuracy", True),
             ("n_tokens", "positions", False), ("n_documents", "documents", False))  # fmt: skip
    return [(words, {letter: row.get(name) for letter, row in here.items()}, share) for name, words, share in names]


def _words(pair: Pair) -> str:
    found = paired_loss(data.store_folder(), pair.run, pair.base)
    if isinstance(found, str):
        return f"**{pair.minus}**: no interval, {plain(found)}."
    told = {
        "the second is smaller": f"{pair.first.letter} has the smaller loss",
        "the first is smaller": f"{pair.side.letter} has the smaller loss",
    }
    verdict = told.get(found.gap.words, "they cannot be told apart")
    rough = f" ({plain(found.note)})" if found.note else ""
    return (
        f"**{pair.minus}**: {found.gap.value:+.4g} nats per position, 95 % interval {found.gap.low:+.4g} to {found.gap.high:+.4g} over "
        f"{count(found.n_documents, 'document')} that both read, drawn together{rough}: {verdict}."
    )


@st.cache_data(max_entries=64, show_spinner=False, hash_funcs={RunInfo: lambda run: run.id})
def paired_loss(folder: str, run: RunInfo, base: RunInfo) -> PairedLoss | str:
    """The difference of the mean losses with its bootstrap interval over documents; else why there is none, in words."""
    opened = data.open_store(folder)
    ours, theirs = (opened.read(one, "losses", columns=["document", "n_tokens", "loss_sum"]) for one in (run, base))
    return paired(ours, theirs)


def paired(ours: Any, theirs: Any) -> PairedLoss | str:
    """From the rows of both, a document each: document, n_tokens, loss_sum."""
    one, other = (frame[frame["n_tokens"] > 0].sort_values("document") for frame in (ours, theirs))
    same = [np.array_equal(one[name].to_numpy(np.int64), other[name].to_numpy(np.int64)) for name in ("document", "n_tokens")]
    if not all(same):
        return "they were scored at other positions or documents"
    sums = [frame["loss_sum"].astype("Float64").to_numpy(np.float64, na_value=np.nan) for frame in (one, other)]
    if any(not np.isfinite(each).all() for each in sums):
        return "the loss of a document is infinite or no number"
    if len(one) < 2:
        return "they read one document only"
    resample = Resample.of(one["n_tokens"].to_numpy(np.float64))
    return PairedLoss(difference(resample, sums[0], sums[1]), resample.n_documents, resample.note)
