"""Figures of `prompt_effect`: from stored rows to specs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from analysis.quality.prompt_tables import CHANGED, DENSE
from figures.spec import Axis, FigureSpec, NothingToDraw, Series

STATES = Series("state", "State", (DENSE, CHANGED))
_ONE_PROMPT = "One prompt says little of a model: other analyses measure over many documents."


class LayerWords(NamedTuple):
    """How a measure by layer is told of, here and in the playground."""

    title: str
    label: str
    unit: str
    what: str


NEURONS = LayerWords("Active neurons by layer", "Active neurons", "share of neurons", "Share of neurons that are active")
KEYS = LayerWords(
    "Concentration of attention by layer", "Keys for 90 % of the attention", "share of valid keys",
    "Fewest keys that hold 90 % of a query's attention / its valid keys, mean over heads and queries",
)  # fmt: skip
KEYS_NOTE = "Queries with one valid key are left out. Interventions on attention: before pairs are taken away."


def active_note(active: float, magnitude: float) -> str:
    """When a neuron counts as active."""
    return (
        f"Active: relative contribution |a| ||w_out|| / ||FFN(x)|| above {active:g}; where no FFN output is at hand not exactly "
        f"zero (ReLU family), else |a| above {magnitude:g}."
    )


def draw_change(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """How far what is predicted at each token is from the dense model."""
    known = rows[rows["change"].notna()]
    if known.empty:
        raise NothingToDraw("nothing was taken away from the model, so no prediction changed.")
    what, unit = ("KL(dense || changed)", "nats") if provenance["facts"]["speaks"] else ("Relative error of the output", "")
    return FigureSpec(
        kind="line",
        data=known.reset_index(drop=True),
        x=Axis("position", "Token", "position in the prompt"),
        y=Axis("change", what, unit),
        title="Where predictions change",
        sentence=f"{what} at each token{_of(provenance)}; mean {known['change'].mean():.4g} over {len(known):,} tokens. "
        f"Taken away: {_taken(provenance)}.",
        hover=("token",),
        notes=(_ONE_PROMPT,),
    )  # fmt: skip


def draw_surprise(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Surprise of each token, in both states."""
    names = {"loss": DENSE, "loss_changed": CHANGED}
    data = rows.melt(["position", "token"], list(names), "state", "nats").dropna(subset=["nats"]).reset_index(drop=True)
    if data.empty:
        raise NothingToDraw("no token of the prompt has a loss: the model predicts no next tokens, or the prompt is one token.")
    means = "; ".join(f"mean {rows[name].mean():.4g} {state}" for name, state in names.items() if rows[name].notna().any())
    return FigureSpec(
        kind="line",
        data=data.assign(state=data["state"].map(names)),
        x=Axis("position", "Token", "position in the prompt"),
        y=Axis("nats", "Surprise", "nats"),
        series=STATES,
        title="Surprise of each token",
        sentence=f"-log p of each token given those before it{_of(provenance)}; {means}, "
        f"{provenance['facts']['n_scored']:,} tokens scored.",
        hover=("token",),
        notes=(_ONE_PROMPT,),
    )


def draw_neurons(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Share of neurons active on this prompt, by layer."""
    config = provenance["config"]
    note, words = active_note(config["active"], config["magnitude"]), NEURONS._replace(what=f"{NEURONS.what}, mean over the tokens")
    return _by_layer(rows, provenance, "active_neurons", words, "no FFN whose neurons can be counted was seen.", note)


def draw_attention(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Keys that hold the attention on this prompt, by layer."""
    return _by_layer(rows, provenance, "keys_90", KEYS, "no attention was seen, or the prompt is one token.", KEYS_NOTE)


def _by_layer(rows: Any, provenance: Mapping[str, Any], column: str, words: LayerWords, nothing: str, note: str) -> FigureSpec:
    """By layer number; by the name of the place where a layer has several."""
    known = rows[rows[column].notna()]
    if known.empty:
        raise NothingToDraw(nothing)
    plainly = not known.duplicated(["state", "layer"]).any()
    return FigureSpec(
        kind="line",
        data=known[["state", "layer", "hook_name", column]].reset_index(drop=True),
        x=Axis("layer", "Layer") if plainly else Axis("hook_name", "Place", scale="category"),
        y=Axis(column, words.label, words.unit),
        series=STATES,
        title=words.title,
        sentence=f"{words.what}{_of(provenance)}. Taken away: {_taken(provenance)}.",
        hover=("hook_name",) if plainly else (),
        notes=(note, _ONE_PROMPT),
    )


def _of(provenance: Mapping[str, Any]) -> str:
    return f" of one prompt of {provenance['facts']['n_prompt_tokens']:,} tokens, {provenance['model_label']}"


def _taken(provenance: Mapping[str, Any]) -> str:
    return ", ".join(provenance["facts"]["taken_away"]) or "nothing"
