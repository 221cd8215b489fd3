"""Which documents train an SAE and which judge it, and the bounded buffer that its activations are shuffled in.

1. Documents are split as everywhere: calibration and choice train, report judges.
2. The windows of the training documents are put into a random order and divided into fills, each as large as the buffer. A fill is a
   random sample of windows, is read by forward passes once, and is trained on in random order, as often as the steps ask for.
3. While a fill is in use its activations lie in the run's own folder, a file per piece, so that a killed run reads none of them twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.spec import UserError
from analysis.tasks.splits import split_documents

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.latents.places import Place

PIECE_TOKENS = 2048
"""Tokens read in one unit of work: what a killed run may have to read again."""
_PIECE = re.compile(r"fill-(\d+)-windows-.*")


@dataclass(frozen=True)
class Plan:
    """What is read, in which order."""

    training: Any = field(repr=False)
    """The windows of the training documents, in the order they are read."""
    held_out: Any = field(repr=False)
    fills: tuple[tuple[slice, ...], ...]
    """Pieces of ``training``, by fill."""
    held_out_pieces: tuple[slice, ...]

    def steps_until(self, fill: int, n_steps: int) -> int:
        """Steps of training to be done when fill ``fill`` has been used: in proportion to the windows read."""
        return round(n_steps * self.fills[fill][-1].stop / self.training.n_windows)


def plan_of(data: Any, config: Any, per_window: int) -> Plan:
    """The plan for data whose windows give ``per_window`` rows each at the place."""
    present = np.unique(data.document)
    parts = split_documents([data.documents[i] for i in present], config.seed)
    judged = np.isin(data.document, present[parts["report"]])
    order = np.flatnonzero(~judged)
    if data.token_ids is not None:  # given batches keep their division, so their order stays, too
        order = np.random.default_rng(config.seed).permutation(order)
    training = data.only(order)
    held_out = data.only(_some(np.flatnonzero(judged), max(1, config.held_out_tokens // per_window), config.seed))
    piece = max(1, min(PIECE_TOKENS, config.buffer_tokens) // per_window)
    fills = _grouped(training.parts(piece), max(1, config.buffer_tokens // per_window))
    return Plan(training, held_out, fills, tuple(held_out.parts(piece)))


def _some(windows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """At most ``n`` of the windows, from anywhere among them, in order."""
    return np.sort(np.random.default_rng(seed).permutation(windows)[:n])


def _grouped(pieces: Sequence[slice], n_windows: int) -> tuple[tuple[slice, ...], ...]:
    """Consecutive pieces in groups of at most so many windows, at least one piece each."""
    groups: list[list[slice]] = []
    for piece in pieces:
        if not groups or piece.stop - groups[-1][0].start > n_windows:
            groups.append([])
        groups[-1].append(piece)
    return tuple(map(tuple, groups))


def rows_per_window(subject: Any, place: Place, data: Any) -> int:
    """Rows a window gives at a place, those that will be left out among them: its tokens, or what one example shows."""
    if data.token_ids is not None:
        return data.token_ids.shape[1]
    first = data.parts(1)[0]
    n_rows = sum(len(seen.values) for seen in read_rows(subject, place, data, first, 1, None))
    return max(1, n_rows // (first.stop - first.start))


def kept_tokens(data: Any, config: Any) -> np.ndarray | None:
    """Which tokens count, bool [n_windows, window]; None where the inputs are not tokens: then all rows do."""
    if data.token_ids is None:
        return None
    keep = ~data.special if config.exclude_special else np.ones_like(data.special)
    if config.exclude_first:
        keep[:, 0] = False
    return keep


@dataclass(frozen=True)
class Seen:
    """Rows of one batch that count."""

    values: Tensor
    """[n, width], on the subject's device."""
    window: np.ndarray
    """int64 [n]: the window each row is of."""
    windows: slice
    """All windows of the batch."""


def read_rows(subject: Any, place: Place, data: Any, piece: slice, batch: int, keep: np.ndarray | None) -> Iterator[Seen]:
    """What flows past a place, batch by batch of a piece; layers after the place do not run. ``keep`` as `kept_tokens` gives it."""
    from analysis.latents.places import reading

    taken: list[tuple[Any, Any]] = []
    with reading(subject.model, [place], lambda _, values, rows: taken.append((values, rows)), stop=True) as read:
        for inputs, windows in data.batches(batch, subject.device, piece):
            taken.clear()
            read.run(inputs)
            ((values, rows),) = taken
            number = rows.cpu().numpy()
            each = max(1, len(number) // (windows.stop - windows.start)) if keep is None else keep.shape[1]
            window = windows.start + number // each
            if keep is None:
                yield Seen(values.clone(), window, windows)
                continue
            counts = np.flatnonzero(keep[windows].reshape(-1)[number])
            yield Seen(values[_index(counts, values)], window[counts], windows)


def _index(rows: np.ndarray, like: Tensor) -> Tensor:
    import torch

    return torch.from_numpy(rows).to(like.device)


class Buffer:
    """The fill in use: written piece by piece, read whole."""

    def __init__(self, folder: Path, fill: int) -> None:
        """Pieces of other fills are no longer needed, and go."""
        self._folder, self._fill = folder, fill
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            match = _PIECE.fullmatch(path.name)
            if match is None or int(match[1]) != fill:
                path.unlink()

    def _path(self, piece: slice) -> Path:
        return self._folder / f"fill-{self._fill}-windows-{piece.start}-{piece.stop}"

    def write(self, piece: slice, values: Tensor) -> None:
        """Keep values [n, width] of a piece, in the format the model has them in."""
        from safetensors.torch import save_file

        path = self._path(piece)
        made = path.with_suffix(".tmp")
        save_file({"values": values.contiguous().cpu()}, made)
        with open(made, "rb") as file:
            os.fsync(file.fileno())
        os.replace(made, path)

    def read(self, pieces: Sequence[slice], device: str) -> Tensor:
        """All pieces of the fill, float32 [n, width]."""
        import torch
        from safetensors.torch import load_file

        values = torch.cat([load_file(self._path(piece))["values"] for piece in pieces]).to(device, torch.float32)
        if not len(values):
            raise UserError("an SAE must have tokens to train on, got none that are left in; read more text or leave fewer tokens out.")
        if not bool(torch.isfinite(values).all()):
            raise UserError("activations must be finite to train an SAE, got infinite ones or none; load the model in float32.")
        return values


class Shuffled:
    """An endless order of n rows: every row once, then every row once more in another order, and so on. Made of its seed alone."""

    def __init__(self, n: int, seed: Sequence[int]) -> None:
        self._n, self._seed = n, list(seed)
        self._pass, self._order = -1, None

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows from place ``start`` of the order to before ``stop``, int64."""
        found = []
        while start < stop:
            number, place = divmod(start, self._n)
            end = min(self._n, place + stop - start)
            found.append(self._of(number)[place:end])
            start += end - place
        return np.concatenate(found)

    def _of(self, number: int) -> Any:
        if number != self._pass:
            self._pass, self._order = number, np.random.default_rng([*self._seed, number]).permutation(self._n)
        return self._order
