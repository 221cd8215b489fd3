"""A folder of checkpoints of one model, as a subject: one series with steps.

A question about one model is refused by it, in a sentence, so that nothing is silently answered for one of its checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from analysis.models import fingerprints
from analysis.models.places import Place
from analysis.models.subject import Checkpoint, Subject
from analysis.spec import UserError


def subject_of(place: Place, device: str, open_place: Callable[[Place], Subject]) -> Subject:
    """The series at that place; its last checkpoint is opened (headers only), for the numbers that all of them share."""
    steps = tuple(
        Checkpoint(one.step, one.place.name, one.place.source, fingerprints.place_fingerprint(one.place), partial(open_place, one.place))
        for one in place.steps
    )
    last = steps[-1].open()

    def refuse() -> Any:
        raise UserError(
            f"a question about one model must be asked of one checkpoint, got {place.label}; "
            f"name one of its checkpoints, for example {steps[-1].name}."
        )

    note = f"a series: the numbers of parameters and tensors are those of step {steps[-1].step:,}, the last"
    return Subject(
        name=place.name,
        label=place.label,
        source=place.source,
        task=None,
        dtype=last.dtype,
        device=device,
        fingerprints={"weights": fingerprints.digest(f"{one.step} {one.fingerprint}".encode() for one in steps)},
        facts=last.facts | {"n_steps": len(steps), "steps": [one.step for one in steps], "notes": [note, *last.facts["notes"]]},
        load_model=refuse,
        list_tensors=refuse,
        series=steps,
    )
