"""What an SAE is and what it is worth: its headline numbers, every measure with other programs' numbers beside ours, its rivals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.latents.preflight import DOUBT
from analysis.latents.quality_tables import JUDGED, OURS, USUAL
from figures.words import number
from store import RunInfo
from ui import data
from ui.charts import show_figure
from ui.latents.saes import Sae
from ui.links import SENSITIVITY_PAGE
from ui.python import copy_as_python
from ui.runs import reference_of
from ui.tables import column_config, readable
from ui.words import code, count, percent, plain, short

Row = Mapping[str, Any]
SCORED = "scored"


def about(sae: Sae) -> str:
    """Place, size and kind in one line (safe Markdown)."""
    parts = [code(sae.hook_name), plain(sae.architecture), count(sae.n_latents, "latent")]
    if sae.row is not None:
        parts.append(f"width {sae.row['width']:,}")
    return " · ".join(filter(None, parts))


def worth(sae: Sae) -> None:
    """The sentences: what training says, and what was checked before it was used."""
    facts = sae.facts
    if facts.get("worth"):
        st.markdown(f"**Worth**: {plain(facts['worth'])}.")
    if sae.row is not None and sae.row.get("mean_max_cosine") is not None:
        st.markdown(
            f"**Known features**: mean max cosine {sae.row['mean_max_cosine']:.3f}: so near, on average, a decoder direction comes to each "
            "feature that this model is known to have; 1 for a feature found exactly."
        )
    found = next((one for one in map(_preflight, (sae.quality, sae.examples, sae.attribution)) if one), ())
    # Of one that was trained here it is known where it belongs: that it explains little is told as its worth, not as a doubt.
    doubts = [one for one in found if DOUBT in one] if sae.train is None else []
    for one in doubts:
        st.warning(plain(one), icon=":material/warning:")
    if found:
        title = (
            "Its model, its hook and its width fit, what it reconstructs may not"
            if doubts
            else "It fits this model, its hook and its width"
        )
        with st.expander(f"{title}; checked before it was used", icon=":material/fact_check:" if doubts else ":material/verified:"):
            st.markdown("\n".join(f"- {plain(one)}" for one in found))


def _preflight(run: RunInfo | None) -> tuple[str, ...]:
    return tuple((run.provenance.get("facts") or {}).get("preflight") or ()) if run is not None else ()


def measured(sae: Sae) -> dict[tuple[str, str, str], Row]:
    """Rows of `sae_quality` by measure, tokens and whose formula; empty where it has not been judged."""
    rows = sae.quality.summaries.get("sae_quality", ()) if sae.quality else ()
    return {(row["measure"], row["tokens"], row["variant"]): row for row in rows}


def numbers(sae: Sae) -> None:
    """The headline numbers, the one that cannot flatter first: what the loss gains."""
    rows = measured(sae)
    if not rows:
        return
    with st.container(horizontal=True, gap="small"):
        for measure, tokens, label in HEADLINES:
            row = rows.get((measure, tokens, OURS))
            if row is None:
                continue
            value = row["value"]
            words = short(value) if value is None else _words(row)
            st.metric(label, words, _interval(row), delta_color="off", delta_arrow="off", width=172, help=_help(row))
    if any(not 0 <= (row["value"] or 0) <= 1 for row in rows.values() if row["measure"].startswith("loss_recovered_")):
        st.caption(
            "A share recovered outside of 0 to 100 % says that the ablation itself hardly changes the loss here, or costs less than the "
            "reconstruction: read the CE difference instead."
        )
    differing = [sentence for row in rows.values() if row["variant"] != OURS for sentence in [_differs(row, rows)] if sentence]
    if differing:
        st.markdown("\n".join(["**Other programs' formulas** give on the same tokens:", "", *(f"- {plain(one)}" for one in differing)]))
    st.caption(_tokens_words(sae))
    st.page_link(
        SENSITIVITY_PAGE, label="What it costs, over its L0, beside other reconstructions of this model", icon=":material/trending_up:",
        query_params={"model": reference_of(sae.run)}, width="content",
    )  # fmt: skip


HEADLINES = (
    ("loss_increase", SCORED, "CE difference"),
    ("loss_recovered_mean", SCORED, "CE recovered, of mean"),
    ("loss_recovered_zero", SCORED, "CE recovered, of zero"),
    ("explained_variance", USUAL, "Explained variance"),
    ("l0", JUDGED, "L0"),
    ("dead", JUDGED, "Dead"),
    ("silent", JUDGED, "Silent here"),
    ("dense", JUDGED, "Dense"),
    ("near_duplicates", JUDGED, "Near duplicates"),
)


def _words(row: Row) -> str:
    if row["measure"] == "loss_increase":
        return f"{row['value']:+.3g} nats"
    share = row["unit"].startswith("share") or row["measure"] == "explained_variance"
    return percent(row["value"]) if share else number(row["value"])


def _interval(row: Row) -> str | None:
    if row["low"] is None or row["high"] is None:
        return None
    share = row["unit"].startswith("share") or row["measure"] == "explained_variance"
    low, high = (percent(row[end]) if share else f"{row[end]:.3g}" for end in ("low", "high"))
    return f"{low} to {high}"


def _help(row: Row) -> str:
    unit = f", {row['unit']}" if row["unit"] else ""
    note = f" {row['note']}." if row["note"] else ""
    return plain(f"{row['meaning']}{unit}; tokens: {row['tokens']}, n = {row['n']:,}.{note}")


def _tokens_words(sae: Sae) -> str:
    """On what it was judged, and what no number of dead latents can say."""
    facts = (sae.quality.provenance.get("facts") or {}) if sae.quality else {}
    trained = "".join(f"{one} " for one in list(facts.get("preflight") or ())[:1])  # the first says which text trained it
    said = (
        f"Judged on {count(int(facts['n_tokens']), 'token')} of {count(int(facts['n_documents']), 'document')}; "
        f"tokens: {facts['mask']}. {trained}"
        f"Below each number: its 95 % interval ({facts['intervals']}). {facts['silent_words']}"
    )
    return plain(said)


# ---------------------------------------------------------------------------------------------------------------------


def quality(sae: Sae) -> None:
    """Every measure: our number, and beside it what other programs' formulas give for the same tokens where that differs."""
    run = sae.quality
    if run is None:
        return
    rows = run.summaries.get("sae_quality", ())
    others = list(dict.fromkeys(row["variant"] for row in rows if row["variant"] != OURS))
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown("## Every measure")
        copy_as_python(run, "sae_quality", key="python-quality")
    st.dataframe(
        {
            "measure": [row["meaning"] for row in rows],
            "tokens": [row["tokens"] for row in rows],
            "whose": [row["variant"] for row in rows],
            "value": [row["value"] for row in rows],
            "low": [row["low"] for row in rows],
            "high": [row["high"] for row in rows],
            "unit": [row["unit"] for row in rows],
            "n": [row["n"] for row in rows],
            "SAELens calls it": [row["saelens_name"] for row in rows],
            "note": [row["note"] for row in rows],
        },
        hide_index=True, height=420, placeholder="—", alt="Every measure of this SAE.", column_config=_headings(),
    )  # fmt: skip
    st.caption(plain("Whose formula: " + "; ".join([OURS, *others]) + "."))


def _differs(row: Row, rows: Mapping[tuple[str, str, str], Row]) -> str:
    """Another program's number beside ours, in a sentence; empty where one of them is missing, or both read the same."""
    ours = rows.get((row["measure"].removesuffix("_legacy"), row["tokens"], OURS))
    if ours is None or row["value"] is None or ours["value"] is None or number(ours["value"]) == number(row["value"]):
        return ""
    what = "" if ours["meaning"] == row["meaning"] else f" ({row['meaning']})"
    said = f"{ours['meaning']}: ours is {number(ours['value'])}, theirs {number(row['value'])}{what}."
    return f"{said} {row['variant']}; tokens: {row['tokens']}."


def _headings() -> dict[str, Any]:
    config = st.column_config
    numbers_ = {name: config.NumberColumn(name, format="%.4g") for name in ("value", "low", "high")}
    return numbers_ | {
        "measure": config.TextColumn("measure", width="large"),
        "whose": config.TextColumn("whose formula"),
        "n": config.NumberColumn("n", format="localized"),
    }


# ---------------------------------------------------------------------------------------------------------------------


def rivals(sae: Sae) -> None:
    """Beside PCA, random directions and dictionary learning at as many numbers per token."""
    run = sae.quality
    if run is None:
        return
    left, right = st.columns(2, gap="large")
    with left:
        show_figure(run, "baselines", "What a token's few numbers buy")
    with right:
        show_figure(run, "densities", "How often latents are active")
    info = next(one for one in data.tables(run) if one.name == "sae_baselines")
    with st.expander("Its rivals in numbers", icon=":material/table:"):
        frame = data.ask(run, "read", "sae_baselines")
        st.dataframe(readable(frame, info), hide_index=True, column_config=column_config(info), placeholder="—", alt=info.comment)


def training(sae: Sae) -> None:
    """How the loss, its sparsity and its dead latents went while it was trained; and of known features, how near it comes."""
    run = sae.train
    if run is None:
        return
    left, right = st.columns(2, gap="large")
    with left:
        show_figure(run, "losses", "Loss while the SAE was trained")
    with right:
        show_figure(run, "shares", "Explained variance and dead latents while the SAE was trained")
    if run.rows.get("sae_features"):
        show_figure(run, "recovery", "Known features that the SAE found")
