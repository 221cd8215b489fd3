"""Whether two runs of one question may be compared: every reason against it, each as a sentence. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analysis import find_analysis
from analysis.spec import UnknownName, settings_of
from store import RunInfo
from ui.words import count, value

_UNITS: Mapping[str, tuple[str, str, str]] = {
    "neuron_activity": ("layers", "n_neurons", "neuron"),
    "head_sparsity": ("attention_layers", "n_heads", "head"),
}
"""By analysis: the summary table with a row per place, its column that counts units, and what they are called."""
_TOTALS = {"weight_sparsity": ("totals", "all weights")}
"""By analysis: the summary table of totals, and the scope whose tensors and weights are counted."""


def comparable(one: RunInfo, other: RunInfo) -> list[str]:
    """Every reason why a difference of the two is not a difference of their models alone; none where it is (foreign text).

    Where the list is empty, what was measured on data was measured on the same documents, so differences are paired.
    """
    if one.slug != other.slug:
        return [f"They answer different questions: {_title(one)} and {_title(other)}."]
    return [
        *_version(one, other),
        *_data(one, other),
        *_settings(one, other),
        *_inputs(one, other),
        *_dtype(one, other),
        *_shape(one, other),
    ]


def _title(run: RunInfo) -> str:
    return str(run.provenance.get("title") or run.slug)


def _version(one: RunInfo, other: RunInfo) -> Iterator[str]:
    if one.version != other.version:
        yield f"Versions {one.version} and {other.version} of the analysis made them, which measure different things."


def _prints(run: RunInfo, role: str = "model") -> Mapping[str, str]:
    return (run.provenance.get("fingerprints") or {}).get(role) or {}


def _data(one: RunInfo, other: RunInfo) -> Iterator[str]:
    """What is read of weights alone has no data to differ."""
    if one.data is None and other.data is None:
        return
    prints = [_prints(run).get("data") for run in (one, other)]
    if None in prints:
        yield f"It was not recorded what {one.data} and {other.data} held, so whether their documents are the same is not known."
    elif prints[0] != prints[1]:
        what = "other data" if one.data != other.data else "other contents under one name"
        yield f"They were measured on {what}: {one.data} and {other.data}."
    tokens = [_prints(run).get("tokenizer") for run in (one, other)]
    if tokens[0] != tokens[1]:
        yield "Their tokenizers differ, and with them the tokens."


def _settings(one: RunInfo, other: RunInfo) -> Iterator[str]:
    """Those that change numbers; of an analysis that is not registered, all."""
    names = list(dict.fromkeys([*one.config, *other.config]))
    try:
        told = {setting.name for setting in settings_of(find_analysis(one.slug).config) if not setting.result}
    except UnknownName:
        told = set()
    differ = [name for name in names if name not in told and one.config.get(name) != other.config.get(name)]
    if differ:
        words = (f"{name} ({value(one.config.get(name))} and {value(other.config.get(name))})" for name in differ)
        yield f"Their settings differ, and with them what was measured: {', '.join(words)}."


def _inputs(one: RunInfo, other: RunInfo) -> Iterator[str]:
    """An SAE, a base, a run that was given beside the model."""
    roles = {role for run in (one, other) for role in run.provenance.get("fingerprints") or {} if role != "model"}
    for role in sorted(roles):
        if _prints(one, role) != _prints(other, role):
            yield f"They were given another {role}."


def _dtype(one: RunInfo, other: RunInfo) -> Iterator[str]:
    types = [run.provenance.get("dtype") for run in (one, other)]
    if types[0] != types[1]:
        yield f"They were computed in {value(types[0])} and {value(types[1])}."


def _shape(one: RunInfo, other: RunInfo) -> Iterator[str]:
    """Places that one has and the other has not, or not as large."""
    if one.slug in _UNITS:
        table, column, noun = _UNITS[one.slug]
        sizes = [sorted((row["layer"], row[column]) for row in run.summaries.get(table, ())) for run in (one, other)]
        if sizes[0] != sizes[1]:
            told = " and ".join(f"{count(sum(n for _, n in each), noun)} in {count(len(each), 'place')}" for each in sizes)
            yield f"Their shapes differ, {told}: only what both have is matched."
    if one.slug in _TOTALS:
        table, scope = _TOTALS[one.slug]
        rows = [next((row for row in run.summaries.get(table, ()) if row["scope"] == scope), None) for run in (one, other)]
        sizes = [None if row is None else (row["n_tensors"], row["n_weights"]) for row in rows]
        if sizes[0] != sizes[1]:
            told = " and ".join("no total" if s is None else f"{count(s[1], 'weight')} in {count(s[0], 'tensor')}" for s in sizes)
            yield f"Their shapes differ, {told}: only what both have is matched."
