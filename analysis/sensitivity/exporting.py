"""A finding to take away: the masks of a level as safetensors, and the pruned checkpoint as any library opens it.

The intervention is made again from what the run says of itself, on the same weights and data; the share of zeros must be the one that was
measured, where that level was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.given_run import RUN, GivenRun, given_run
from analysis.sensitivity.choices import prunings
from analysis.sensitivity.essential_sparsity import EssentialSparsityConfig
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.interventions.pruning import HeldPruning, WeightPruning
    from store import Store

SLUGS = ("essential_sparsity", "allocation")
CARD = "sparsescope.json"
_COUNT = 1e-9


def export_masks(store: Store, ref: str, level: float, to: Path, *, curve: str = "", model: str = "", data: str = "") -> Path:
    """True where a weight is not zero, by parameter, of every parameter in scope; how it was made stands in the file's metadata."""
    from safetensors.torch import save_file

    _must_be_new(to)
    with _pruned(store, ref, level, curve, model, data) as (held, card, _):
        masks = {member.name: (held.weights(member.name, level) != 0).contiguous() for member in held.scope.members}
    to.parent.mkdir(parents=True, exist_ok=True)
    save_file(masks, to, metadata={"sparsescope": json.dumps(card)})
    return to


def export_model(store: Store, ref: str, level: float, to: Path, *, curve: str = "", model: str = "", data: str = "") -> Path:
    """A folder with the pruned weights, as the model's own library writes it; of a plain module, its state as safetensors."""
    from safetensors.torch import save_model

    _must_be_new(to)
    with _pruned(store, ref, level, curve, model, data) as (_, card, subject):
        to.mkdir(parents=True)
        if hasattr(subject.model, "save_pretrained"):
            subject.model.save_pretrained(to)
            if hasattr(subject.tokenizer, "save_pretrained"):
                subject.tokenizer.save_pretrained(to)
        else:
            save_model(subject.model, str(to / "model.safetensors"))
    (to / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return to


def _must_be_new(to: Path) -> None:
    if to.exists():
        raise UserError(f"the place to write to must be new, got {to}, which is there; give another name.")


@contextmanager
def _pruned(store: Store, ref: str, level: float, curve: str, model: str, data: str) -> Iterator[tuple[HeldPruning, dict[str, Any], Any]]:
    """The model of a run at a level: what holds it, the card, the subject."""
    from analysis.models import open_subject
    from analysis.sensitivity.curve_rows import curve_key, curve_label
    from analysis.sensitivity.study import Study, calibration_for

    given = given_run(store, ref)
    if given.slug not in SLUGS:
        raise UserError(
            f"the run must be of {' or '.join(SLUGS)}, got {given.id}, which is of {given.slug}; a grid prunes one matrix at a time."
        )
    place = _model_of(given, model)
    subject = open_subject(place)
    if subject.fingerprints.get("weights") != given.provenance["fingerprints"]["model"].get("weights"):
        raise UserError(
            f"the model must have the weights of the run {given.id}, got {subject.label} with others; give its place with --model."
        )
    pruning, settings = _intervention(store, given, subject, curve)
    calibration = None
    if pruning.needs:
        wanted = {name: given.provenance["config"][name] for name in ("n_tokens", "window", "seed")}
        subject = open_subject(place, data=data or str(given.provenance["data"]), **wanted)
        calibration = calibration_for(Study.of(replace(settings, methods="magnitude", split="report"), subject), pruning)
    label = curve_label(curve_key(pruning))
    with pruning.on(subject, calibration) as held:
        applied = held.at(level)
        _check(given, curve_key(pruning), level, applied.achieved)
        card = {"run": given.id, "model": given.label, "curve": label, "level": level, "achieved": applied.achieved}
        yield held, card | {"denominator": applied.denominator, "intervention": pruning.slug, "notes": list(applied.notes)}, subject


def _model_of(given: GivenRun, model: str) -> str:
    from analysis.models import BUNDLED

    known = given.provenance["model"]
    return model or (known if known in BUNDLED else str(given.provenance["model_source"]))


def _intervention(store: Store, given: GivenRun, subject: Any, curve: str) -> tuple[WeightPruning, EssentialSparsityConfig]:
    """One of the curves of the run, the first where none is named, and the settings it is calibrated with."""
    from analysis.sensitivity.curve_rows import curve_key, curve_label

    config = given.provenance["config"]
    if given.slug == "allocation":
        from analysis.sensitivity.allocating import interventions

        grid = given_run(store, given.provenance["fingerprints"][RUN][RUN])
        found = list(interventions(config["others"], config["by"], subject, grid).values())
        settings = EssentialSparsityConfig(task=grid.provenance["config"]["task"], seed=config["seed"])
    else:
        names = ("methods", "structures", "group", "include", "only", "seed", "draws", "ratios", "variant")
        found = prunings(**{name: config[name] for name in names if name in config})  # earlier runs had no ratios
        settings = EssentialSparsityConfig(**config)
    by_label = {curve_label(curve_key(one)): one for one in found}
    if curve and curve not in by_label:
        raise UserError(f"curve must be one of the run's, {'; '.join(by_label)}, got {curve!r}; name one of them.")
    return (by_label[curve] if curve else found[0]), settings


def _check(given: GivenRun, key: Mapping[str, Any], level: float, achieved: float) -> None:
    points = given.read("curve_points")
    for name, value in key.items():
        points = points[points[name] == value]
    there = points[(points["level"] - level).abs() < _COUNT]["achieved"]
    if len(there) and abs(float(there.iloc[0]) - achieved) > _COUNT:
        raise UserError(
            f"the share of zeros must be that of the run {given.id}, {float(there.iloc[0]):.9g}, got {achieved:.9g}; "
            "give the data it was calibrated on with --data."
        )
