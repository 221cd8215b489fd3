"""Holding a live model sparser while a text is read: interventions at their levels, units gone; every bit is back afterwards.

All interventions are held at level 0 first, so that each looks at the dense model when it makes its thresholds; then levels are set.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.interventions.catalogue import find_intervention
from analysis.live.offered import CALIBRATION_DATA, CALIBRATION_TOKENS, CALIBRATION_WINDOW
from analysis.live.player_seen import head_place, neuron_place
from analysis.live.playing import Step, UnitRef
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.interventions.spec import Applied, Held, Intervention
    from analysis.live.reader import Reader


class Holder:
    """Makes one model sparser, again and again; what was calibrated once is kept."""

    def __init__(self, reader: Reader, places: Sequence[Any], example: Any, calibration: Any = None) -> None:
        self._reader, self._subject, self._places, self._example = reader, reader.subject, places, example
        self._given = calibration
        self._calibrations: dict[frozenset[str], Any] = {}
        self._plan: Any = None

    @contextlib.contextmanager
    def holding(self, steps: Sequence[Step], without: Sequence[UnitRef]) -> Iterator[list[tuple[Step, Held, Applied]]]:
        """While inside the model is at these levels and without these units; on exit, also on error, it is dense."""
        from analysis.live.limits import check_copy

        made = [self._made(step) for step in steps]
        if any(one.target == "weights" for one in made):
            check_copy(self._subject.model)
        calibrations = [self._calibrated(one) for one in made]
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(one.on(self._subject, found)) for one, found in zip(made, calibrations, strict=True)]
            for one in held:
                one.at(0.0)
            for unit in without:
                stack.enter_context(self._without(unit))
            yield [(step, one, one.at(nearest(one, step.level))) for step, one in zip(steps, held, strict=True)]

    def _made(self, step: Step) -> Intervention:
        entry = find_intervention(step.slug)
        why = entry.unsuited(self._subject.task == "causal-lm")
        if why is not None:
            raise UserError(why)
        return entry.make(0)

    def _calibrated(self, made: Intervention) -> Any:
        """What it needs, from the small calibration text; kept, since the model stays the same."""
        if not made.needs:
            return None
        if made.needs not in self._calibrations:
            from analysis.interventions.calibration import calibrate_on
            from analysis.interventions.scope import weight_scope
            from analysis.tasks import choose_task

            subject = self._subject
            task = choose_task(replace(subject, data=self._calibration_data()))
            scope = weight_scope(subject.model)
            self._calibrations[made.needs] = calibrate_on(subject.model, scope, task, CALIBRATION_TOKENS // 2, made.needs)
        return self._calibrations[made.needs]

    def _calibration_data(self) -> Any:
        """What was given, else a small text; of what reads none, the rows that it was opened with."""
        from analysis.models.text import text_windows

        subject = self._subject
        if self._given is not None:
            return self._given
        if subject.data is not None and subject.data.token_ids is None:
            return subject.data
        limit = min(CALIBRATION_WINDOW, self._reader.most_tokens)
        return text_windows(CALIBRATION_DATA, subject.tokenizer, n_tokens=CALIBRATION_TOKENS, window=limit, seed=0, task=subject.task)

    # -----------------------------------------------------------------------------------------------------------------
    # Units

    def check(self, units: Sequence[UnitRef]) -> None:
        """Raise the sentence for a unit that is not there, before anything runs."""
        for unit in units:
            if unit.kind == "neuron":
                neuron_place(self._reader.sites, unit)
            elif unit.kind == "head":
                head_place(self._places, unit)
            else:
                opened = self._reader.latents.open(unit.sae).dictionary
                if unit.index >= opened.d_sae:
                    raise UserError(f"the latent must be from 0 to {opened.d_sae - 1}, got {unit.index}; choose one of them.")

    def _without(self, unit: UnitRef) -> contextlib.AbstractContextManager[None]:
        if unit.kind == "latent":
            return self._without_latent(unit)
        return self._without_part(unit)

    @contextlib.contextmanager
    def _without_part(self, unit: UnitRef) -> Iterator[None]:
        """A neuron, or a head's part of what the output matrix reads, is zero in every pass."""
        from analysis.capture.running import unwrapped
        from analysis.interventions.structure.base import Ablation, Plan, Spot, ablated

        if unit.kind == "neuron":
            site = neuron_place(self._reader.sites, unit)
            spot = Spot(0, site.width or 0, site.hook_name, site)
        else:
            found = self._head_spot(unit)
            spot = Spot(0, found.n, found.label, found.site)
        plan = Plan((spot,), (), f"{unit.kind}s")
        ablation = Ablation(plan)
        ablation.gone[unit.index] = True
        with ablated(unwrapped(self._subject.model), plan, ablation):
            yield

    def _head_spot(self, unit: UnitRef) -> Any:
        from analysis.capture.running import unwrapped
        from analysis.interventions.structure.finding import head_plan

        place = head_place(self._places, unit)
        if self._plan is None:
            self._plan = head_plan(unwrapped(self._subject.model), self._example)
        for spot in self._plan.spots:
            if spot.site is not None and spot.site.layer == unit.layer and spot.n == place.heads:
                return spot
        raise UserError(
            f"a head must be one that a matrix reads, got layer {unit.layer}, whose heads cannot be told apart; choose another."
        )

    @contextlib.contextmanager
    def _without_latent(self, unit: UnitRef) -> Iterator[None]:
        """What the latent adds to the reconstruction is taken away; the SAE's error, and every other latent, stay."""
        from analysis.latents.places import changing

        opened = self._reader.latents.open(unit.sae)
        dictionary = opened.dictionary
        if dictionary.transcoder:
            raise UserError("a latent that is taken away must be one of an SAE, got one of a transcoder; choose an SAE.")
        with changing(self._subject.model, opened.place, without_latent(dictionary, unit.index)):
            yield


def without_latent(dictionary: Any, latent: int) -> Callable[[Any, Any], Any]:
    """x - (decode(f) - decode(f without the latent)); where the latent is 0 the very same values."""

    def change(values: Any, rows: Any) -> Any:  # noqa: ARG001 - the contract of `changing`
        import torch

        with torch.no_grad():
            x = values.float()
            f = dictionary.encode(x)
            is_on = f[:, latent] != 0
            if not bool(is_on.any()):
                return values
            rest = f.clone()
            rest[:, latent] = 0
            added = dictionary.decode(f) - dictionary.decode(rest)
            return torch.where(is_on[:, None], (x - added).to(values.dtype), values)

    return change


def nearest(held: Held, level: float) -> float:
    """The level that is meant: of what has only some levels the nearest of them; anything above 0 is on."""
    if held.levels is None or level == 0:
        return level
    return min((one for one in held.levels if one > 0), key=lambda one: abs(one - level))
