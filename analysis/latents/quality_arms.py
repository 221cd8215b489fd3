"""What `sae_quality` holds throughout a run: subject, place, mask, task; and the passes it makes, each a unit of work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from analysis.latents.encoding import WINDOWS, Observed, Source, encoded
from analysis.latents.held_out import HeldOut, check_context, held_out
from analysis.latents.masking import Mask
from analysis.latents.rivals import PCA, RANDOM, SAE, Fit, Rival, pca, random_directions
from analysis.latents.splicing import Ablation, Reconstruction, Splice
from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.interventions.cost import DenseCost
    from analysis.interventions.measuring import Evaluation
    from analysis.interventions.sweep import Baseline, Point
    from analysis.latents.dictionary import Dictionary
    from analysis.latents.places import Place
    from analysis.latents.sae_quality import SaeQualityConfig as Settings
    from analysis.models import Data
    from analysis.tasks import Task

FITTING, READING, MEASURING = "reading other documents", "reading held-out documents", "measuring the loss"
DENSE, ZERO, MEAN, ZERO_EVERYWHERE = "dense", "zero ablation", "mean ablation", "zero ablation of every token"
UNIT_TOKENS = 8192
"""Tokens per unit of work."""


@dataclass(frozen=True)
class Judging:
    """What is held throughout a run. Made by `of`."""

    config: Settings
    held: HeldOut
    dictionary: Dictionary
    reads: Place
    predicts: Place
    mask: Mask
    task: Task
    fitting: Data = field(repr=False)
    """Documents that means and rivals are fitted on."""
    words: tuple[str, ...] = ()
    """What the preflight and the windows say."""

    @classmethod
    def of(cls, config: Settings, subject: Any, dictionary: Dictionary) -> Judging:
        """Every refusal comes before the first pass over the text."""
        from analysis.latents.preflight import preflight
        from analysis.tasks import choose_task, split_windows

        held = held_out(subject, dictionary)
        context = check_context(held.subject, dictionary)
        checked = preflight(dictionary, held.subject)
        dictionary.to(subject.device)
        task = choose_task(held.subject, config.task, split=config.split, seed=config.seed)
        data = held.subject.data
        own = split_windows(data, config.split, config.seed)
        others = np.setdiff1d(np.arange(data.n_windows), own) if config.split == "report" else own
        mask = Mask.of(subject, dictionary)
        words = (held.words, context, *checked.findings)
        return cls(config, held, dictionary, checked.place, checked.out or checked.place, mask, task, data.only(others), words)

    @property
    def subject(self) -> Any:
        """The model with the documents that are left."""
        return self.held.subject

    @property
    def source(self) -> Source:
        """Where rows come from."""
        return Source(self.subject, self.reads, self.predicts, self.mask)

    @property
    def compares(self) -> bool:
        """Whether there are rivals: not for a transcoder, which reconstructs something else than it reads."""
        return self.config.baselines and not self.dictionary.transcoder

    @cached_property
    def evaluation(self) -> Evaluation:
        """The task, measured in every arm on the same batches."""
        from analysis.interventions.measuring import Evaluation

        batch = self.task.batch_size(self.config.batch_tokens)
        return Evaluation(self.subject.model, self.task, batch, kl_positions=self.config.kl_positions, seed=self.config.seed)

    @cached_property
    def cost(self) -> DenseCost:
        """Of the model as it is; no weights go in any arm."""
        from analysis.sensitivity.study import dense_cost_of

        study = SimpleNamespace(task=self.task, subject=self.subject, scope=SimpleNamespace(members=()))
        return dense_cost_of(cast("Any", study))

    # ---- passes over activations --------------------------------------------------------------------------------------

    def fit(self, work: Any) -> Fit:
        """Mean and second moments of what is reconstructed, and L0, on the fitting documents."""
        import torch

        parts, total = _parts(self.fitting), Fit.empty(self.predicts.width)
        n_sample = ceil(self.config.dictionary_tokens / max(1, ceil(self.fitting.n_windows / WINDOWS)))
        for name in work.units(list(parts), FITTING):
            made = Fit.empty(self.predicts.width)
            for block in self.source.blocks(self.fitting, parts[name], work.report):
                rows = torch.from_numpy(block.judged)
                active = sum(int((f != 0).sum(1)[rows[part]].sum()) for part, f, _ in encoded(self.dictionary, block.x))
                made.update(block.target[rows], active, n_sample)
            work.save_state(made.arrays())
        for _, state in work.states(FITTING):
            total.merge(Fit.of_arrays(state))
        if not total.n:
            raise UserError(f"the text must hold a token to be judged, got none ({self.mask.words}); give a longer text.")
        return total

    def rivals(self, fit: Fit) -> dict[str, Rival]:
        """Principal components and random directions with as many numbers per token."""
        if not self.compares:
            return {}
        return {PCA: pca(fit), RANDOM: random_directions(fit, self.dictionary.d_sae, self.config.seed)}

    def observe(self, rivals: Mapping[str, Rival], largest: float, work: Any) -> Observed:
        """Latents and reconstructions on the documents that are reported on; tokens up to the norm ``largest`` are of usual size."""
        data = self.task.data
        parts, empty = _parts(data), lambda: Observed.empty(data, self.dictionary, self.predicts.width, list(rivals))
        n_sample = ceil(self.config.dictionary_tokens / 2 / max(1, ceil(data.n_windows / WINDOWS)))
        for name in work.units(list(parts), READING):
            made = empty()
            for block in self.source.blocks(data, parts[name], work.report):
                made.update(block, self.dictionary, rivals, n_sample, largest)
            work.save_state(made.arrays())
        total = empty()
        for _, state in work.states(READING):
            total.merge(Observed.of_arrays(state))
        return total

    # ---- passes with something in place of the activations ------------------------------------------------------------

    def arms(self, fit: Fit, rivals: Mapping[str, Rival], l0: float | None, spares: bool) -> dict[str, Splice]:
        """What is put there, by name. ``spares``: whether the mask spares any token of the text; then sae-lens' zero arm is another."""
        out = self.predicts if self.dictionary.transcoder else None
        found: dict[str, Splice] = {
            SAE: Reconstruction.of(self.dictionary, self.reads, out, mask=self.mask, l0=l0),
            ZERO: Ablation(self.predicts, mask=self.mask),
            MEAN: Ablation(self.predicts, fit.mean, mask=self.mask),
        }
        for name, rival in rivals.items():
            found[name] = Reconstruction(self.predicts, name, rival.both, mask=self.mask, l0=float(rival.n_active))
        return found | ({ZERO_EVERYWHERE: Ablation(self.predicts)} if spares else {})

    def measure(
        self, arms: Mapping[str, Splice], known: dict[str, Point], work: Any, rows: Callable[[str, Splice, Point], Iterator[Any]]
    ) -> Iterator[Any]:
        """The dense model, then every arm on the same batches; what an earlier session measured is read back. ``known`` is filled."""
        from analysis.interventions.sweep import Point

        known |= {name: Point.of_arrays(state) for name, state in work.states(MEASURING)}
        if DENSE in known and self.evaluation.needs_dense:
            self.evaluation.dense()  # outputs are not stored, and later arms are compared with them
        for name in work.units([DENSE, *arms], MEASURING):
            if name == DENSE:
                known[name] = Point(0.0, self.evaluation.dense(work.report))
            else:
                with arms[name].on(self.subject) as held:
                    applied = held.at(1.0)
                    measured = self.evaluation.measure(work.report, again=lambda held=held: held.at(1.0))
                    known[name] = Point(1.0, measured, applied, held.cost(1.0))
            work.save_state(known[name].arrays())
            if name != DENSE:
                yield from rows(name, arms[name], known[name])

    def baseline(self, known: Mapping[str, Point]) -> Baseline:
        """What every arm is compared with."""
        from analysis.interventions.sweep import Baseline

        return Baseline.of(known[DENSE].measured)


def _parts(data: Data) -> dict[str, slice]:
    """Units of work: whole forward passes."""
    assert data.token_ids is not None  # `needs` refuses inputs that are no tokens
    windows = max(1, UNIT_TOKENS // data.token_ids.shape[1] // WINDOWS) * WINDOWS
    return {f"{part.start}-{part.stop}": part for part in data.parts(windows)}
