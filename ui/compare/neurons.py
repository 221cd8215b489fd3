"""Neurons of two models, matched by layer and number: how many are dead, rare or dense, and whose firing changed most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from figures.palettes import ACTIVITY
from figures.spec import Axis, FigureSpec, Series
from store import RunInfo
from ui import data
from ui.charts import show_spec
from ui.compare.changes import Changes, changes, share_noise
from ui.compare.matching import BASE, matched_units
from ui.compare.section import Pair, Value, ranked, side_by_side, unit_address, value_columns
from ui.links import NEURON_PAGE
from ui.neurons.units import sites
from ui.neurons.view import MEASURES
from ui.words import count, plain

CLASSES = tuple(ACTIVITY)
_PLACE = ("layer", "hook_name")
_UNIT = "neuron"
_KEPT = ("layer", "hook_name", "neuron", "class", "documents_active", "n_documents")


def neurons(pairs: Sequence[Pair], closer: Pair | None) -> None:
    """Counts of all models; classes by layer and the ranked list of the one looked at closer."""
    side_by_side(
        counts(pairs), pairs, key="neuron-counts", alt="One row per class of neurons: how many each model has, and the difference."
    )
    if closer is None:
        return
    spec = classes_spec(closer)
    if spec is not None:
        show_spec(spec, closer.provenance, name="compare-neurons", key="compare-neurons")
    name = st.selectbox("Rank neurons by", list(MEASURES), key="neurons_by", bind="query-params", width=210)
    found = neuron_changes(data.store_folder(), closer.run, closer.base, MEASURES[name], bool(closer.reasons))
    ranked(closer, found, name, _columns(closer, name), _table(closer, found), _UNIT, key=f"ranked-neurons-{name}")
    if found.n_sure is not None and found.n_changed:
        documents = int(found.rows["n_documents"].iloc[0])
        st.caption(
            f"The test is of the share of the {count(documents, 'document')} that a neuron is active in, since a neuron's numbers are "
            "not stored document by document: the interval and q are the widest and the largest that the paired test (McNemar's, exact) "
            "could give from the two counts; q is corrected after Benjamini and Hochberg."
        )


def counts(pairs: Sequence[Pair]) -> list[tuple[str, Mapping[str, Value], bool]]:
    """Rows of the table: neurons of each class, silent ones, and the mean active share."""
    runs = {pairs[0].first.letter: pairs[0].base} | {pair.side.letter: pair.run for pair in pairs}
    totals = {letter: _totals(run) for letter, run in runs.items()}
    names = {
        "n_neurons": "neurons",
        **{f"n_{one}": one for one in CLASSES},
        "n_silent": "silent on the tokens read",
        "density": "mean active share",
    }
    return [(words, {letter: total.get(name) for letter, total in totals.items()}, name == "density") for name, words in names.items()]


def _totals(run: RunInfo) -> dict[str, Value]:
    """Sums over places; the mean share weighs them by their neurons."""
    rows = run.summaries.get("layers", [])
    n = sum(row["n_neurons"] for row in rows)
    if not n:
        return {}
    found: dict[str, Value] = {name: sum(row[name] for row in rows) for name in ("n_neurons", "n_silent", *(f"n_{one}" for one in CLASSES))}
    return found | {"density": sum(row["density"] * row["n_neurons"] for row in rows) / n}


def classes_spec(pair: Pair) -> FigureSpec | None:
    """By layer, how many more neurons are of each class; None where no layer is in both."""
    import pandas as pd

    by_layer = [_by_layer(run) for run in (pair.run, pair.base)]
    layers = sorted(set(by_layer[0]) & set(by_layer[1]))
    if not layers:
        return None
    rows = [
        {"layer": layer, "class": one, "more": by_layer[0][layer][one] - by_layer[1][layer][one], "first": by_layer[1][layer][one],
         "second": by_layer[0][layer][one]}
        for one in CLASSES for layer in layers
    ]  # fmt: skip
    n = sum(sum(by_layer[0][layer].values()) for layer in layers)
    return FigureSpec(
        kind="bars",
        data=pd.DataFrame(rows),
        x=Axis("layer", "Layer", scale="category"),
        y=Axis("more", f"More of the class, {pair.minus}", "neurons"),
        series=Series("class", "Class", order=CLASSES, palette="activity"),
        title=f"Classes of neurons by layer, {pair.minus}",
        sentence=f"How many more neurons of each class {pair.side.name} has than {pair.first.name}, layer by layer; "
        f"n = {count(n, 'neuron')} of {pair.side.name} in {count(len(layers), 'layer')}.",
        hover=("first", "second"),
        notes=pair.notes,
    )


def _by_layer(run: RunInfo) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for row in run.summaries.get("layers", ()):
        here = found.setdefault(row["layer"], dict.fromkeys(CLASSES, 0))
        for one in CLASSES:
            here[one] += row[f"n_{one}"]
    return found


@st.cache_data(max_entries=64, show_spinner="Matching neurons …", hash_funcs={RunInfo: lambda run: run.id})
def neuron_changes(folder: str, run: RunInfo, base: RunInfo, column: str, untested: bool) -> Changes:
    """Neurons of both runs ranked by the change of a column; only what is shown is kept."""
    opened = data.open_store(folder)
    columns = list(dict.fromkeys([*_KEPT, column]))
    ours, theirs = (opened.read(one, "neurons", columns=columns) for one in (run, base))
    matched = matched_units(ours, theirs, _PLACE, _UNIT)
    noise = None
    if not untested and len(matched.rows):
        noise = share_noise(matched, "documents_active", int(matched.rows["n_documents"].max()))
    return changes(matched, column, noise)


def _table(pair: Pair, found: Changes) -> Any:
    """The ranked rows as they are shown; addresses of both pages last."""
    rows = found.rows
    labels = {(site.layer, site.hook_name): site.label for site in sites(pair.run)}
    names = [f"{labels.get((layer, hook), layer)}:{number}" for layer, hook, number in rows[[*_PLACE, _UNIT]].itertuples(index=False)]
    shown = rows[["base", "value", "change", f"class{BASE}", "class", f"documents_active{BASE}", "documents_active", "low", "high", "q"]]
    shown = shown.assign(unit=names, in_base=_addresses(rows, pair.base, BASE), in_run=_addresses(rows, pair.run, ""))
    tested = ["low", "high", "q"] if found.n_sure is not None else []
    return shown[
        [
            "unit",
            "base",
            "value",
            "change",
            f"class{BASE}",
            "class",
            f"documents_active{BASE}",
            "documents_active",
            *tested,
            "in_base",
            "in_run",
        ]
    ]


def _addresses(rows: Any, run: RunInfo, side: str) -> list[str]:
    places = zip(rows[f"layer{side}"], rows[f"hook_name{side}"], rows[_UNIT], strict=True)
    return [unit_address(NEURON_PAGE, {"run": run.id, "layer": layer, "hook": hook, "neuron": number}) for layer, hook, number in places]


def _columns(pair: Pair, name: str) -> dict[str, Any]:
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    first, second = pair.first.letter, pair.side.letter
    return {
        "unit": text("neuron", pinned=True, help="layer:neuron"),
        **value_columns(pair, name),
        f"class{BASE}": text(f"class, {first}"),
        "class": text(f"class, {second}"),
        f"documents_active{BASE}": number(f"documents, {first}", format="localized", help="Documents it is active in"),
        "documents_active": number(f"documents, {second}", format="localized", help="Documents it is active in"),
        "low": number("share of documents, from", format="%+.3f", help=plain(f"95 % interval of {pair.minus}, lower end")),
        "high": number("to", format="%+.3f", help=plain(f"95 % interval of {pair.minus}, upper end")),
        "q": number("q", format="%.3g", help="p of the difference in documents, corrected for the number of neurons"),
    }
