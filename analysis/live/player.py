"""Answers of the playground: one text through a model as it is, and once more with something taken away. Part of the worker.

1. The dense pass: next tokens, loss, sparsity layer by layer, what the chosen unit does, the stream behind every block.
2. The same with interventions at their levels and units gone (`player_held`), and how far its answers are from the dense ones.
3. Where it is asked for, the text is continued in both states, and the logit lens is read off both.

``check`` is asked before every module, so that an answer nobody waits for is given up between two layers, and the weights are back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.live.player_held import Holder
from analysis.live.player_inputs import Given, given, names_of
from analysis.live.player_lens import Lens, Residuals, is_same, why_no_lens
from analysis.live.player_seen import AttentionSeen, NeuronsSeen, head_place, neuron_place
from analysis.live.player_text import continued, endings, most_probable
from analysis.live.playing import MOST_TOKENS, Play
from analysis.live.question import Question
from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.capture import Site
    from analysis.live.reader import Reader

Check = Callable[[], None]
Json = dict[str, Any]
LENS_DIFFERS = (
    "The logit lens reads the model's own end behind its last block; here something else of what is taken away acts there, or something "
    "other than its blocks stands in between, so its last row would not be the model's answer."
)


class Player:
    """A loaded model that plays. ``calibration``: windows that interventions are calibrated on, in place of the usual small text."""

    def __init__(self, reader: Reader, most_tokens: int = MOST_TOKENS, calibration: Any = None) -> None:
        from analysis.capture.attention_places import find_attention
        from analysis.interventions.structure.finding import block_plan

        self._reader, self._subject = reader, reader.subject
        subject = self._subject
        self._example, _ = next(iter(subject.data.batches(2, subject.device)))  # pyright: ignore[reportOptionalMemberAccess]
        self._places = find_attention(subject.model, self._example, names=subject.hook_names())
        self._is_causal = subject.task == "causal-lm"
        self._blocks: tuple[str, ...] = ()
        if self._is_causal:
            with contextlib.suppress(UserError):  # a model without matrices in a scope has no blocks to be read either
                self._blocks = tuple(spot.block for spot in block_plan(self._model, self._example).spots if spot.block is not None)
        self._no_lens = why_no_lens(subject, self._blocks)
        self._holder = Holder(reader, self._places, self._example, calibration)
        self._ends = endings(subject) if subject.tokenizer is not None else set()
        self.most_tokens = min(most_tokens, reader.most_tokens)

    @property
    def _model(self) -> Any:
        from analysis.capture.running import unwrapped

        return unwrapped(self._subject.model)

    def answer(self, play: Play, check: Check) -> Json:
        """The answer as JSON."""
        from analysis.live.reader import check_fingerprints

        began = time.monotonic()
        check_fingerprints(self._subject, play.fingerprints)
        self._holder.check([*play.without, *([] if play.colour is None else [play.colour])])
        one = given(self._reader, play, self.most_tokens)
        with self._reader.watched(check):
            found = self._arms(play, one, check)
        about = {
            "text": one.speaks,
            "causal": self._is_causal,
            "task": self._subject.task,
            "label": self._subject.label,
            "row": not one.is_text,
        }
        told = {"tokens": list(one.names), "ids": one.ids.tolist(), "special": one.special.tolist(), "pieces": self._pieces(found, one)}
        units = {
            "neurons": sorted({(s.layer, s.width) for s in self._reader.sites.values() if s.expert is None}),
            "heads": sorted({(p.site.layer, p.heads) for p in self._places}),
        }
        return {**told, **found, "about": about, "units": units, "seconds": round(time.monotonic() - began, 3)}

    def _arms(self, play: Play, one: Given, check: Check) -> Json:
        """Dense, and where something is taken away, without it."""
        dense, residuals, before = self._pass(play, one, is_dense=True)
        found: Json = {"dense": dense, "sparse": None, "kl": None, "same": None, "applied": []}
        dense["text"] = self._continued(play, one)
        dense["lens"], dense["no_lens"] = self._lens(play, one, residuals, before)
        if not play.changes:
            return found
        check()
        with self._holder.holding(play.steps, play.without) as held:
            check()
            sparse, residuals, after = self._pass(play, one, is_dense=not play.steps)
            found["applied"] = [_told(*one) for one in held]
            sparse["text"] = self._continued(play, one)
        sparse["lens"], sparse["no_lens"] = self._lens(play, one, residuals, after)
        found["sparse"] = sparse
        found["kl"], found["same"] = self._distance(one, before, after)
        return found

    # -----------------------------------------------------------------------------------------------------------------
    # One pass

    def _pass(self, play: Play, one: Given, *, is_dense: bool) -> tuple[Json, Residuals, Tensor]:
        """What one state of the model does with the text; its stream; its answer [tokens, vocabulary or width]."""
        from analysis.capture import Frame, capture
        from analysis.capture.attention_session import AttentionSession

        unit = play.colour
        place = neuron_place(self._reader.sites, unit) if unit is not None and unit.kind == "neuron" else None
        head = head_place(self._places, unit) if unit is not None and unit.kind == "head" else None
        model, sites = self._model, list(self._reader.sites.values())
        neurons = NeuronsSeen(self._rules(play, is_dense=is_dense), unit, place)
        attention = AttentionSeen(model, self._places, unit, head)
        residuals = Residuals(model, self._blocks)
        with contextlib.ExitStack() as stack:
            if self._places:
                watched = list({p.site.name: p.site for p in self._places}.values())
                session = AttentionSession(model, watched, attention, direct=True)
                stack.callback(session.detach)
                session.attach()
            if self._no_lens is None and play.lens and one.is_text:
                stack.enter_context(residuals.watching())
            output = stack.enter_context(capture(model, sites, neurons)).run(one.batch, Frame.of(one.batch))
        answer = one.answer(output)
        told: Json = {"neurons": neurons.shares(sites), "attention": attention.shares()}
        told |= self._coloured(play, one, neurons, attention)
        told["next"] = most_probable(answer) if one.speaks else None
        return told | _losses(one.score(output)), residuals, answer

    def _rules(self, play: Play, *, is_dense: bool) -> Callable[[Site], Any]:
        """What active means; of weights that an intervention may have pruned it is found anew."""
        from analysis.neurons.observing import active_rule

        if is_dense:
            return lambda site: self._reader.rule(site, play.active, play.magnitude)
        return lambda site: active_rule(self._model, site, play.active, play.magnitude)

    def _coloured(self, play: Play, one: Given, neurons: NeuronsSeen, attention: AttentionSeen) -> Json:
        """By token: what the chosen unit does; of a head also what it gives, and where it looks."""
        unit, n = play.colour, len(one.ids)
        nothing: Json = {"values": None, "norms": None, "looks": None}
        if unit is None or not one.is_text:
            return nothing
        if unit.kind == "neuron":
            return nothing | {"values": _finite([neurons.values_of_unit.get(t) for t in range(n)])}
        if unit.kind == "head":
            if attention.received is None or len(attention.received) != n or not np.isfinite(attention.received).all():
                return nothing
            return {"values": attention.received, "norms": attention.norms, "looks": attention.looks}
        asked = Question(play.text, ("-",), (unit.index,), sae=unit.sae)
        [found] = self._reader.latents.units(asked, one.batch, n)
        return nothing | {"values": _finite(found["activations"])}

    def _distance(self, one: Given, before: Tensor, after: Tensor) -> tuple[list[Any], list[bool] | None]:
        """At each token KL(dense || sparse) of what is predicted there in nats, and whether the first choice stayed; of a model without
        logits |y - y0| / |y0| of its output."""
        import torch

        from analysis.stats.losses import kl_divergence, relative_error

        every = torch.ones(len(before), dtype=torch.bool, device=before.device)
        if one.speaks:
            kl, same = kl_divergence(before, after, every)
            known = ~((before.isnan() | after.isnan()).any(-1) | (before.isposinf() | after.isposinf()).any(-1))
            return [v if k else None for v, k in zip(_finite(kl.tolist()), known.tolist(), strict=True)], same.tolist()
        error, has = relative_error(before, after, every)
        return [v if h else None for v, h in zip(_finite(error.tolist()), has.tolist(), strict=True)], None

    def _continued(self, play: Play, one: Given) -> Json | None:
        """The text continued in the model's present state; None where it is not asked for, or cannot be."""
        from analysis.capture.running import observable, run
        from analysis.tasks.objectives import answer_of

        if not play.new or not self._is_causal or not one.is_text:
            return None

        def answer(ids: list[int]) -> Tensor:
            with observable(self._model):
                return answer_of(run(self._model, self._reader.batch_of(np.asarray(ids, np.int64))))[0, -1]

        made, ended = continued(answer, one.ids.tolist(), play.new, self._ends, temperature=play.temperature, seed=play.seed)
        return {"ids": made, "ended": ended}

    def _lens(self, play: Play, one: Given, residuals: Residuals, answer: Tensor) -> tuple[Json | None, str | None]:
        """Most probable token of each layer and token, with its probability; or why there is none."""
        if self._no_lens is not None or not play.lens or not one.is_text:
            return None, self._no_lens
        lens = Lens(self._model, self._blocks)
        rows, last = [], None
        for last in lens.logits(one.batch, residuals):
            rows.append(most_probable(last, 1))
        if not all(all(row) for row in rows):
            return None, "There is no logit lens here: what the model gives is not finite."
        if last is None or not is_same(last, answer[-len(last) :]):
            return None, LENS_DIFFERS
        ids = [[int(first) for [[first, _]] in row] for row in rows]
        return {"first": len(one.ids) - len(rows[0]), "names": lens.names, "ids": ids, "p": [[p for [[_, p]] in row] for row in rows]}, None

    def _pieces(self, found: Json, one: Given) -> dict[str, str]:
        """The text of every id in an answer, by the id as JSON has it."""
        wanted: set[int] = set(one.ids.tolist()) if one.is_text else set()
        for arm in filter(None, (found["dense"], found["sparse"])):
            wanted |= {int(i) for row in arm["next"] or () for i, _ in row}
            wanted |= {i for row in (arm["lens"] or {"ids": ()})["ids"] for i in row}
            wanted |= set((arm["text"] or {"ids": ()})["ids"])
        return {str(i): name for i, name in names_of(self._subject, sorted(wanted), is_text=one.is_text).items()}


def _losses(by_position: list[float | None]) -> Json:
    """As it is sent: infinite ones are null."""
    known = [v for v in by_position if v is not None]
    if not known:
        return {"loss": None, "mean_loss": None, "n_scored": 0}
    return {"loss": _finite(by_position), "mean_loss": _mean(known), "n_scored": len(known)}


def _told(step: Any, held: Any, applied: Any) -> Json:
    """An intervention as it was applied, in words and numbers."""
    measured = held.measured_share()
    return {
        "slug": step.slug, "level": applied.level, "achieved": applied.achieved if measured is None else measured,
        "denominator": applied.denominator, "native_value": applied.native_value, "native_unit": applied.native_unit,
        "notes": list(applied.notes),
    }  # fmt: skip


def _finite(values: Sequence[float | None]) -> list[float | None]:
    return [v if v is not None and np.isfinite(v) else None for v in values]


def _mean(values: Sequence[float]) -> float | None:
    """None where it is infinite."""
    mean = float(np.mean(values))
    return mean if np.isfinite(mean) else None
