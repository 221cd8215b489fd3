"""The course of training an SAE: fill the buffer, train on it, save; in units, so that a kill at any moment costs one of them.

What a unit leaves outside the tables (a piece of the buffer, a checkpoint) is written before the unit is committed and cleared only after
the next one is, so whoever resumes always finds what the committed units promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.capture.fitting import Fitting
from analysis.latents.buffering import Buffer, Plan, Shuffled, kept_tokens, read_rows
from analysis.latents.dictionary import PLACE
from analysis.latents.masking import begins_with_special
from analysis.latents.training import Training, forget_before

if TYPE_CHECKING:
    from analysis.latents.places import Place
    from analysis.latents.sae_train import SaeTrainConfig

    Rows = Iterator[tuple[str, Mapping[str, Any]]]

UNIT_SAMPLES = 65_536
"""Activations trained on per unit of work: what a killed run may have to train on again."""
LAST = 20
"""Of about 200 batches that are kept: the end of training, where the learning rate has fallen."""
READING, TRAINING, SAVING = "reading activations", "training", "saving the SAE"


def working_folders(files: Path) -> tuple[Path, Path]:
    """Where checkpoints and the buffer lie among the files of a run: not to be sealed with it."""
    return files / "checkpoints", files / "buffer"


def n_steps_of(config: SaeTrainConfig) -> int:
    """Steps of training."""
    return max(1, config.n_samples // config.batch)


def tokens_read(work: Any) -> int:
    """Different tokens that were trained on."""
    return sum(int(state["n_tokens"]) for _, state in work.states(READING))


def explained_in_training(work: Any) -> float | None:
    """Median explained variance of the last `LAST` batches that were kept, of the last unit that kept any; None where none varied."""
    kept = [state["explained"] for _, state in work.states(TRAINING) if len(state["explained"])]
    return float(np.median(kept[-1][-LAST:])) if kept else None


def train(config: SaeTrainConfig, subject: Any, place: Place, plan: Plan, work: Any) -> Rows:
    """Fill by fill: read, then train; at the end save the SAE as ``sae``."""
    course = _Course(config, subject, place, plan, work)
    n_steps = n_steps_of(config)
    for fill in range(len(plan.fills)):
        steps = range(plan.steps_until(fill - 1, n_steps) if fill else 0, plan.steps_until(fill, n_steps))
        if steps.stop > max(steps.start, course.done):
            course.read(fill)
            yield from course.train(fill, steps)
    for _ in work.units(["sae"], what=SAVING):
        course.training().finish(work.files)


class _Course:
    """What the units of one run share."""

    def __init__(self, config: SaeTrainConfig, subject: Any, place: Place, plan: Plan, work: Any) -> None:
        self._config, self._subject, self._place, self._plan, self._work = config, subject, place, plan, work
        self._checkpoints, self._buffer = working_folders(work.files)
        self._checkpoints.mkdir(exist_ok=True)
        self.done = max((int(state["step"]) for _, state in work.states(TRAINING)), default=0)
        """Steps that earlier attempts have committed."""
        self._training: Training | None = None
        self._batch = Fitting.windows(config.batch_tokens, plan.training)

    def training(self, values: Any = None) -> Training:
        """The training: taken up from its last checkpoint, or begun with the ``values`` of the first fill."""
        if self._training is None:
            metadata = _metadata(self._config, self._subject, self._place, self._plan)
            made = Training(self._config, self._place, n_steps_of(self._config), self._subject.device, metadata)
            if self.done:
                made.load(self._checkpoints, self.done)
            else:
                made.begin(values)
            self._training = made
        return self._training

    def read(self, fill: int) -> None:
        """Read the pieces of a fill that are not in the buffer yet."""
        import torch

        data, keep, buffer = self._plan.training, kept_tokens(self._plan.training, self._config), Buffer(self._buffer, fill)
        pieces = {f"{piece.start}-{piece.stop}": piece for piece in self._plan.fills[fill]}
        for name in self._work.units(list(pieces), what=READING, expected=sum(map(len, self._plan.fills))):

            def read(size: int, piece: slice = pieces[name]) -> torch.Tensor:
                seen = []
                for rows in read_rows(self._subject, self._place, data, piece, size, keep):
                    seen.append(rows.values)
                    self._work.report((rows.windows.stop - piece.start) / (piece.stop - piece.start))
                return torch.cat(seen)

            piece, values = pieces[name], self._batch(read)
            buffer.write(piece, values)
            self._work.save_state({"n_tokens": np.array(len(values))})

    def train(self, fill: int, steps: range) -> Rows:
        """The steps of one fill, in units; a checkpoint at the end of each."""
        per_unit = max(1, UNIT_SAMPLES // self._config.batch)
        ends = [min(steps.stop, start + per_unit) for start in range(steps.start, steps.stop, per_unit)]
        expected = n_steps_of(self._config) // per_unit + len(self._plan.fills)
        values = order = None
        for name in self._work.units([str(end) for end in ends], what=TRAINING, expected=expected):
            if values is None or order is None:
                values = Buffer(self._buffer, fill).read(self._plan.fills[fill], self._subject.device)
                order = Shuffled(len(values), (self._config.seed, fill))
            training = self.training(values)
            forget_before(self._checkpoints, training.step)
            explained: list[float] = []
            yield from self._steps(training, values, order, range(steps.start, int(name)), explained)
            training.save(self._checkpoints)
            self._work.save_state({"step": np.array(training.step), "explained": np.array(explained)})

    def _steps(self, training: Training, values: Any, order: Shuffled, steps: range, explained: list[float]) -> Rows:
        """Steps up to the last of ``steps`` on the rows of a fill that is used from the first of them on."""
        import torch

        begun, first, last = training.step, steps.start, steps.stop
        while training.step < last:
            place = (training.step - first) * self._config.batch
            rows = torch.from_numpy(order.rows(place, place + self._config.batch)).to(values.device)
            kept = training.one_step(values[rows])
            if kept is not None:
                yield "sae_steps", kept[0]
                yield "sae_losses", kept[1]
                explained += [value for value in kept[0]["explained_variance"] if value is not None]
            self._work.report((training.step - begun) / (last - begun))


def _metadata(config: SaeTrainConfig, subject: Any, place: Place, plan: Plan) -> dict[str, Any]:
    """What the saved SAE says of itself: sae-lens' names where it has any, and ours."""
    tokens = subject.data.token_ids
    return {
        "model_name": subject.name,
        "hook_name": place.hook_name,
        "hook_head_index": None,
        "context_size": None if tokens is None else tokens.shape[1],
        "prepend_bos": begins_with_special(subject.data),
        "seqpos_slice": [1, None] if config.exclude_first else [None],
        "exclude_special_tokens": config.exclude_special,
        "dataset_path": subject.data.name,
        "data": subject.data.name,
        "documents": sorted({subject.data.documents[i] for i in np.unique(plan.training.document)}),
        PLACE: place.name,
        "place_kind": place.kind,
        "n_heads": place.n_heads,
        "model_label": subject.label,
        "model_fingerprint": subject.fingerprints.get("weights"),
    }
