"""Figures and headlines of `sparsity_plane`, from stored rows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from analysis.interventions.entry import RUNS_ON
from analysis.sensitivity.curve_figures import FLOOR, ONE_SHOT
from analysis.sensitivity.plane_tables import PHASES
from analysis.spec import Figure, Headline, Summaries
from figures.spec import Axis, FigureSpec, NothingToDraw, Series

LABELS = {
    "prefill": ("FLOPs of one pass", "prefill, B = 1"),
    "decode": ("Bytes moved per decoded token", "decode"),
    "resident": ("Bytes held", "weights, and keys and values of one sequence"),
}
TARGETS = ("weights", "activations", "attention", "structure", "tokens")


def draw_plane(phase: str, longest: bool, rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Loss above dense over what is left of the cost, a point for each level of each intervention, coloured by what can use it."""
    batch = 1
    shown = rows[(rows["phase"] == phase) & (rows["batch"] == batch) & (rows["level"] > 0) & rows["delta"].notna()]
    context = None if not len(shown) else int(shown["context"].max() if longest else shown["context"].min())
    if context is None or (longest and shown["context"].nunique() == 1):
        raise NothingToDraw(_no_cost(phase, longest))
    data = _floored(shown[shown["context"] == context])
    label, where = LABELS[phase]
    return FigureSpec(
        kind="scatter",
        data=data,
        x=Axis("share", label, unit="share of the dense model's"),
        y=Axis("shown", "Loss above dense", unit=_unit(provenance), scale="log"),
        series=Series("runs_on", "Can be used by", order=_classes(data)),
        title=f"What the loss buys: {label[0].lower()}{label[1:]}",
        sentence=f"Increase of the loss of {provenance['model_label']} over its {label[0].lower()}{label[1:]} at {context:,} positions "
        f"({where}{', B = 1' if phase == 'decode' else ''}), {data['method'].nunique()} interventions at {len(data)} levels, on "
        f"{_measured_on(provenance)}.",
        hover=("method", "target", "level", "achieved", "delta", "low", "high", "absolute"),
        notes=_notes(provenance),
    )


def draw_front(phase: str, rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """The points of each class that no other of it beats: picked on the choice documents, drawn as on the report documents."""
    import pandas as pd

    shown = rows[(rows["phase"] == phase) & (rows["batch"] == 1) & rows["delta"].notna()]
    if not len(shown):
        raise NothingToDraw(_no_cost(phase, False))
    context = int(shown["context"].min())
    shown = shown[shown["context"] == context]
    dense = pd.DataFrame([{"runs_on": one, "share": 1.0, "delta": 0.0, "method": "dense", "level": 0.0} for one in _classes(shown)])
    data = _floored(pd.concat([shown, dense], ignore_index=True)).sort_values(["runs_on", "share"], ignore_index=True)
    label, _ = LABELS[phase]
    return FigureSpec(
        kind="line",
        data=data,
        x=Axis("share", label, unit="share of the dense model's"),
        y=Axis("shown", "Loss above dense", unit=_unit(provenance), scale="log"),
        series=Series("runs_on", "Can be used by", order=_classes(shown)),
        title=f"What no other beats: {label[0].lower()}{label[1:]}",
        sentence=f"Fronts of {provenance['model_label']} at {context:,} positions, one for each kind of kernel, of {len(shown)} points on "
        f"{_measured_on(provenance)}. Picked on other documents (choice), so a front may rise where its luck does not repeat.",
        hover=("method", "level", "delta", "choice_delta"),
        notes=_notes(provenance),
    )


def draw_achieved(target: str | None, rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Loss above dense over the share removed, of everything or of one target, a line for each intervention."""
    shown = rows[(rows["metric"] == "loss") & rows["delta"].notna() & ((rows["level"] > 0) | (rows["kind"] == "curve"))]
    if target is not None:
        shown = shown[shown["target"] == target]
    if not len(shown):
        raise NothingToDraw(f"No intervention on {target or 'anything'} was measured; name some in interventions.")
    data = _floored(shown).sort_values(["method", "level"], ignore_index=True)
    return FigureSpec(
        kind="line",
        data=data,
        x=Axis("achieved", "Removed", unit="share of its own denominator", bounds=(0, 1)),
        y=Axis("shown", "Loss above dense", unit=_unit(provenance), scale="log"),
        y_low="low",
        y_high="high",
        series=Series("method", "Intervention", order=tuple(dict.fromkeys(data["method"]))),
        title=f"How much of {f'the {target}' if target != 'structure' else 'the structure'} can go"
        if target
        else "How much of each can go",
        sentence=f"Increase of the loss of {provenance['model_label']} over the share removed, with 95 % intervals over documents, on "
        f"{_measured_on(provenance)}. Shares of different things do not compare: what each is of stands in curve_points.",
        hover=("level", "delta", "denominator", "runs_on"),
        notes=_notes(provenance),
    )


def _floored(rows: Any) -> Any:
    """With the height that is drawn, and intervals that a logarithmic axis can show."""
    found = rows.reset_index(drop=True).copy()
    found["shown"] = found["delta"].clip(lower=FLOOR)
    for end in ("low", "high"):
        if end in found:
            found[end] = found[end].clip(lower=FLOOR)
    return found


def _classes(rows: Any) -> tuple[str, ...]:
    """What can use the rows, in the usual order."""
    return tuple(one for one in RUNS_ON if (rows["runs_on"] == one).any())


def _unit(provenance: Mapping[str, Any]) -> str:
    return str((provenance.get("facts") or {}).get("unit", ""))


def _measured_on(provenance: Mapping[str, Any]) -> str:
    facts = provenance.get("facts") or {}
    n, documents = facts.get("n_scored"), facts.get("n_documents_measured")
    of = f"{n:,} positions of {documents:,} documents of " if n is not None and documents is not None else ""
    return f"{of}{provenance['data']} (report)"


def _notes(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    facts = provenance.get("facts") or {}
    found = (
        facts.get("cost", ""), facts.get("loss_context", ""),
        "What is skipped is counted as saved; whether a machine saves it depends on what can use it. Classes are not of one front.",
        f"Differences below {FLOOR:g}, negative ones among them, are drawn at {FLOOR:g}.", ONE_SHOT,
    )  # fmt: skip
    return tuple(note for note in found if note)


def _no_cost(phase: str, longest: bool) -> str:
    if longest:
        return "Costs were counted at one length only: give further ones in contexts."
    if phase == "decode":
        return "This cost was not counted: nothing is decoded, or the model keeps no keys and values that could be seen."
    return "No level has been measured yet."


FIGURES = (
    *(Figure(phase, f"Loss over {phase} cost", "plane_costs", partial(draw_plane, phase, False)) for phase in PHASES),
    *(Figure(f"{phase}_long", f"Loss over {phase} cost, longer", "plane_costs", partial(draw_plane, phase, True)) for phase in PHASES),
    *(Figure(f"front_{phase}", f"Fronts, {phase}", "fronts", partial(draw_front, phase)) for phase in PHASES),
    Figure("achieved", "Loss over the share removed", "curve_points", partial(draw_achieved, None)),
    *(Figure(target, f"Loss over the share removed, {target}", "curve_points", partial(draw_achieved, target)) for target in TARGETS),
)


def headlines(summaries: Summaries) -> tuple[Headline, ...]:
    """Of each target the intervention with the largest drop point at the tolerance of the card."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in summaries.get("drop_points", ()):
        if row["is_headline"] and row["level"] is not None and row["level"] > best.get(row["target"], {"level": -1.0})["level"]:
            best[row["target"]] = row
    return tuple(
        Headline(
            f"{target.capitalize()} that can go", best[target]["level"],
            f"Share of its own denominator, {best[target]['method']}, within {best[target]['eps']:g} {best[target]['unit']}: "
            f"{best[target]['words']}; {best[target]['n_documents']:,} documents, without fine-tuning.",
        )
        for target in TARGETS if target in best
    )  # fmt: skip
