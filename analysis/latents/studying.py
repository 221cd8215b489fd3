"""What questions about single latents hold throughout a run: model, dictionary, place and mask; and passes that yield latents window by
window.

1. `Study.of` makes every refusal before the first pass.
2. `Study.windows` yields the latents of a few whole windows at a time, on the model's device; layers behind the place do not run.
3. `Seen` adds up all that is kept of them: counts, peaks, and which latents are active together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.latents.encoding import ENTRIES, WINDOWS, Block, Source, document_windows
from analysis.latents.held_out import check_context, held_out
from analysis.latents.masking import Mask
from analysis.spec import UserError
from analysis.stats.coactivation import within_budget
from analysis.stats.latent_peaks import LatentPeaks
from analysis.stats.latents import LatentActivity

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.latents.dictionary import Dictionary
    from analysis.latents.places import Place
    from analysis.models import Data

READING = "reading windows"
UNIT_TOKENS = 8192
"""Tokens per unit of work: what a killed run may lose."""
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Windows:
    """Latents of whole windows."""

    latents: Tensor
    """[W, L, F]; 0 where there is no token."""
    judged: NDArray[np.bool_]
    """[W, L]: tokens that count, as in `sae_quality`."""
    number: NDArray[np.int64]
    """[W]: which windows of the data, ascending."""


@dataclass(frozen=True)
class Study:
    """Made by `of`."""

    config: Any
    subject: Any
    dictionary: Dictionary
    place: Place
    predicts: Place
    mask: Mask
    words: tuple[str, ...]

    @classmethod
    def of(cls, config: Any, subject: Any, dictionary: Dictionary) -> Study:
        """Raises `UserError` where dictionary, model and text do not fit together."""
        from analysis.latents.preflight import preflight

        context = check_context(subject, dictionary)
        checked = preflight(dictionary, subject)
        dictionary.to(subject.device)
        n_trained = held_out(subject, dictionary).n_left_out
        trained = [f"{n_trained:,} of these documents trained the SAE; they are shown, too."] if n_trained else []
        words = (context, *checked.findings, *trained)
        return cls(config, subject, dictionary, checked.place, checked.out or checked.place, Mask.of(subject, dictionary), words)

    @property
    def data(self) -> Data:
        """The text."""
        return self.subject.data

    @property
    def token_ids(self) -> NDArray[np.int64]:
        """[windows, positions]."""
        ids = self.data.token_ids
        assert ids is not None  # `needs` refuses inputs that are no tokens
        return ids

    @property
    def parts(self) -> dict[str, slice]:
        """Units of work: whole forward passes."""
        n = max(1, UNIT_TOKENS // self.token_ids.shape[1] // WINDOWS) * WINDOWS
        return {f"{part.start}-{part.stop}": part for part in self.data.parts(n)}

    def windows(self, within: slice, report: Callable[[float], None] = lambda share: None) -> Iterator[Windows]:
        """The latents of these windows, at most `ENTRIES` of them held at a time (or one window's)."""
        source = Source(self.subject, self.place, self.place, self.mask)
        for block in source.blocks(self.data, within, report):
            yield from self._encoded(block)

    def _encoded(self, block: Block) -> Iterator[Windows]:
        import torch

        length, n_latents = self.token_ids.shape[1], self.dictionary.d_sae
        first, last = int(block.window.min()), int(block.window.max()) + 1
        step = max(1, ENTRIES // (length * n_latents))
        for start in range(first, last, step):
            stop = min(start + step, last)
            here = np.flatnonzero((block.window >= start) & (block.window < stop))
            place = (block.window[here] - start) * length + block.position[here]
            with torch.no_grad():
                f = self.dictionary.encode(block.x[torch.from_numpy(here).to(block.x.device)]).float()
            judged = np.zeros((stop - start) * length, bool)
            judged[place] = block.judged[here]
            if len(here) < len(judged):
                full = f.new_zeros(len(judged), n_latents)
                full[torch.from_numpy(place).to(f.device)] = f
                f = full
            yield Windows(f.view(stop - start, length, n_latents), judged.reshape(-1, length), np.arange(start, stop))

    def facts(self) -> dict[str, Any]:
        """For the provenance."""
        return {
            "sae": f"{self.dictionary.label} ({self.dictionary.architecture})",
            "hook_name": self.place.hook_name,
            "layer": self.place.layer,
            "place_kind": self.place.kind,
            "n_latents": self.dictionary.d_sae,
            "width": self.dictionary.d_in,
            "n_heads": self.place.n_heads,
            "mask": self.mask.words,
            "preflight": list(self.words),
        }


@dataclass
class Seen:
    """What passes add up; any split into parts of whole windows gives the same."""

    latents: LatentActivity
    peaks: LatentPeaks
    together: list[NDArray[np.int64]] = field(default_factory=list)
    """[2, entries] each: rows, counted over all parts, and the latents active on them."""
    n_together: int = 0
    """Rows taken for that."""

    @classmethod
    def empty(cls, study: Study, *, top: int, sampled: int) -> Seen:
        """Nothing seen yet."""
        n, config = study.dictionary.d_sae, study.config
        return cls(LatentActivity.empty(n, document_windows(study.data)), LatentPeaks.empty(n, top, sampled, config.seed))

    def update(self, study: Study, windows: Windows, budget: int = 0, *, rank_first: bool = False) -> None:
        """Take in windows. ``budget``: pairs of latents active together that may be taken of them."""
        import torch

        data, ids = study.data, study.token_ids[windows.number]
        f = windows.latents
        judged = torch.from_numpy(windows.judged).to(f.device)
        counted = f * judged[..., None]
        document = np.broadcast_to(np.asarray(data.document)[windows.number][:, None], windows.judged.shape)[windows.judged]
        number = np.broadcast_to(windows.number[:, None], windows.judged.shape)[windows.judged]
        kept = counted[judged]
        row, which = (t.cpu().numpy() for t in torch.nonzero(kept, as_tuple=True))
        self.latents.take(row, which, kept[row, which].cpu().numpy(), number, document)
        some = windows.judged.any(1)
        self.latents.skip(np.asarray(data.document)[windows.number[~some]])
        self._together(row, which, len(kept), budget)
        if not rank_first:
            counted[:, 0] = 0
        peak, position = (t.cpu().numpy() for t in counted.max(1))
        threads = torch.get_num_threads()
        self.peaks.update(np.ascontiguousarray(peak, np.float32), position, windows.number, ids, threads)

    def _together(self, row: NDArray[np.int64], which: NDArray[np.int64], n_rows: int, budget: int) -> None:
        n = within_budget(row, n_rows, budget)
        taken = row < n
        self.together.append(np.stack([row[taken] + self.n_together, which[taken]]))
        self.n_together += n

    def merge(self, other: Seen) -> None:
        """Take in what another pass saw of other windows."""
        self.latents.merge(other.latents)
        self.peaks.merge(other.peaks)
        self.together += [entries + np.array([[self.n_together], [0]]) for entries in other.together]
        self.n_together += other.n_together

    def arrays(self) -> Arrays:
        """The state by name."""
        found: Arrays = {f"latents/{name}": values for name, values in self.latents.arrays().items()}
        found |= {f"peaks/{name}": values for name, values in self.peaks.arrays().items()}
        together = np.concatenate(self.together, axis=1) if self.together else np.zeros((2, 0), np.int64)
        return found | {"together": together, "n_together": np.array(self.n_together)}

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> Seen:
        """Back from `arrays`."""

        def within(prefix: str) -> Arrays:
            return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}

        latents, peaks = LatentActivity.of_arrays(within("latents/")), LatentPeaks.of_arrays(within("peaks/"))
        return cls(latents, peaks, [arrays["together"]], int(arrays["n_together"]))


def seen_all(study: Study, work: Any, *, top: int, sampled: int, pairs: int = 0, rank_first: bool = False) -> Seen:
    """One pass over the text, unit by unit. ``pairs``: the budget of pairs that are active together, over all of it."""
    parts, total = study.parts, Seen.empty(study, top=top, sampled=sampled)
    n_windows = len(study.token_ids)
    for name in work.units(list(parts), what=READING):
        made = Seen.empty(study, top=top, sampled=sampled)
        for windows in study.windows(parts[name], work.report):
            made.update(study, windows, pairs * len(windows.number) // n_windows, rank_first=rank_first)
        work.save_state(made.arrays())
    for _, state in work.states(READING):
        total.merge(Seen.of_arrays(state))
    if not total.latents.n_tokens:
        raise UserError(f"the text must hold a token that counts, got none ({study.mask.words}); give a longer text.")
    return total
