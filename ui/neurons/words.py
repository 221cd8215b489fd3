"""What is known about a neuron, as sentences: never an empty panel, never more than the data allow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store import RunInfo
from ui.words import count, percent

Row = Mapping[str, Any]

CLASS_WORDS: Mapping[str, str] = {
    "dead": "silent on enough tokens to say so, or dead by its weights",
    "rare": "active, but on less than the rare cut-off",
    "undecided": "too few tokens were read to tell",
    "normal": "between the cut-offs",
    "dense": "active on more than the dense cut-off",
}
_BY_WEIGHTS: Mapping[str, str] = {
    "dead_in": "Its input weights alone keep it from ever firing.",
    "dead_out": "Its output weights are zero, so whatever it does has no effect.",
    "constant": "Its input weights are zero: it has the same value on every token.",
}


def state(row: Row) -> str:
    """How often a neuron fires, with what that is worth."""
    seen = f"{count(int(row['n_tokens']), 'token')} from {count(int(row['n_documents']), 'document')}"
    if not row["n_active"]:
        return f"No firing in {seen}: with 95 % confidence it fires in fewer than {percent(row['document_high'])} of such documents."
    tokens = f"Active on {int(row['n_active']):,} of {seen}: density {percent(row['density'])}"
    interval = f"{percent(row['density_low'])} to {percent(row['density_high'])}"
    documents = f"{int(row['documents_active']):,} of {int(row['n_documents']):,} documents"
    return (
        f"{tokens} (95 % interval {interval} if tokens were independent, which they are not: an estimate). It is active in {documents}: "
        f"with 95 % confidence in {percent(row['document_low'])} to {percent(row['document_high'])} of such documents."
    )


def class_words(row: Row, run: RunInfo) -> str:
    """Its class and why."""
    rare, dense = run.config.get("rare"), run.config.get("dense")
    cut = {"rare": f" ({rare:g} of tokens)" if rare else "", "dense": f" ({dense:g} of tokens)" if dense else ""}.get(row["class"], "")
    said = f"{row['class']}: {CLASS_WORDS.get(row['class'], 'a class of a later version')}{cut}."
    return " ".join(filter(None, [said, _BY_WEIGHTS.get(row["static_class"] or "", "")]))


def wakes(rows: list[Row]) -> str:
    """How many silent neurons are expected to fire if the data were doubled."""
    silent = sum(row["n_silent"] for row in rows)
    if not silent:
        return "No neuron was silent throughout."
    expected = sum(row["expected_wakes"] for row in rows)
    documents = rows[0]["n_documents"]
    bound = percent(rows[0]["silent_document_bound"])
    return (
        f"{count(silent, 'neuron')} never fired, by the run's own rule; about {expected:,.0f} of them are expected to fire if "
        f"{count(documents, 'further document')} were read (smoothed Good-Toulmin). With 95 % confidence each one fires in fewer than "
        f"{bound} of such documents."
    )
