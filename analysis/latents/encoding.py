"""One pass over text with a dictionary: rows of activations block by block, and all that `sae_quality` adds up about them.

Every row knows its window, document and position; padding never comes. Forward passes hold `WINDOWS` windows, whatever the machine: the
numbers that other programs take batch by batch are then the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.latents.quality_tables import AFTER_FIRST, EVERY, JUDGED, TOKENS, USUAL
from analysis.stats.latents import LatentActivity
from analysis.stats.reconstruction import BatchwiseFidelity, Fidelity

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.latents.dictionary import Dictionary
    from analysis.latents.masking import Mask
    from analysis.latents.places import Place
    from analysis.models import Data

WINDOWS = 8
"""Windows in a forward pass."""
ENTRIES = 2**24
"""Latents held at once: 64 MB in float32."""
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Block:
    """The rows of one forward pass."""

    x: Tensor
    """What the dictionary reads [n, d], float32."""
    target: Tensor
    """What it is to reconstruct [n, d_out]: x itself, but for transcoders."""
    window: NDArray[np.int64]
    """[n], numbers among the data's windows."""
    document: NDArray[np.int64]
    position: NDArray[np.int64]
    judged: NDArray[np.bool_]
    """[n]: whether the mask leaves the token in."""

    def of(self, largest: float) -> dict[str, NDArray[np.bool_]]:
        """Which rows belong to each of `TOKENS`; ``largest``: norm up to which a token is of usual size."""
        usual = self.judged & (self.target.norm(dim=1) <= largest).cpu().numpy()
        every = np.ones_like(self.judged)
        return {JUDGED: self.judged, USUAL: usual, EVERY: every, AFTER_FIRST: self.judged & (self.position > 0)}


@dataclass(frozen=True)
class Source:
    """Where rows come from: a model, the place a dictionary reads, the one it predicts, and which tokens are judged."""

    subject: Any
    reads: Place
    predicts: Place
    mask: Mask

    def blocks(self, data: Data, within: slice, report: Callable[[float], None] = lambda share: None) -> Iterator[Block]:
        """The rows of these windows, pass by pass; passes end behind the last place."""
        import torch

        from analysis.capture import Frame
        from analysis.latents.places import reading

        chosen = [self.reads] if self.reads == self.predicts else [self.reads, self.predicts]
        found: dict[str, tuple[Tensor, Tensor]] = {}

        def take(place: Place, values: Tensor, rows: Tensor) -> None:
            found[place.name] = (values.float().clone(), rows)

        with reading(self.subject.model, chosen, take, stop=True) as session:
            for inputs, windows in data.batches(WINDOWS, self.subject.device, within):
                session.run(inputs, Frame.of(inputs))
                x, rows = found[self.reads.name]
                ids = torch.from_numpy(_ids(data)[windows])
                place = rows.cpu().numpy()
                window = windows.start + place // ids.shape[1]
                judged = self.mask.judged(ids).reshape(-1).numpy()[place]
                target = found[self.predicts.name][0]
                yield Block(x, target, window, np.asarray(data.document)[window], place % ids.shape[1], judged)
                report((windows.stop - within.start) / max(1, within.stop - within.start))


def _ids(data: Data) -> NDArray[np.int64]:
    ids = data.token_ids
    assert ids is not None  # `needs` refuses inputs that are no tokens
    return ids


def of_usual(rival: str) -> str:
    """Key of a rival's fidelity on tokens of usual size."""
    return f"{rival}, {USUAL}"


def document_windows(data: Data) -> NDArray[np.int64]:
    """[documents]: windows of each."""
    return np.bincount(data.document, minlength=len(data.documents))


def encoded(dictionary: Dictionary, x: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Latents and reconstruction of rows, in pieces of `ENTRIES` latents."""
    import torch

    step = max(1, ENTRIES // max(1, dictionary.d_sae))
    with torch.no_grad():
        for start in range(0, len(x), step):
            part = slice(start, min(start + step, len(x)))
            yield part, *dictionary.both(x[part])


def _entries(latents: Tensor, start: int, judged: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Row (counted from the block's first), latent and value of what is not zero, on judged tokens."""
    import torch

    rows, which = torch.nonzero(latents * judged[:, None].to(latents), as_tuple=True)
    return (rows + start).cpu().numpy(), which.cpu().numpy(), latents[rows, which].float().cpu().numpy()


# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Observed:
    """What a pass adds up: fidelity on each set of tokens, other programs' batchwise numbers, latents, and rows kept as a sample."""

    fidelity: dict[str, Fidelity]
    """By one of `TOKENS`, by a rival's name (on judged tokens), and by `of_usual` of it."""
    batchwise: BatchwiseFidelity
    latents: LatentActivity
    sample: list[NDArray[np.float32]] = field(default_factory=list)
    """Rows of judged tokens, with their reconstruction beside them [n, 2 d]."""

    @classmethod
    def empty(cls, data: Data, dictionary: Dictionary, width: int, rivals: Sequence[str]) -> Observed:
        """Nothing seen yet of these data; ``width`` of what is reconstructed."""
        names = [*TOKENS, *rivals, *(of_usual(name) for name in rivals)]
        made = {name: Fidelity.empty(len(data.documents), width) for name in names}
        return cls(made, BatchwiseFidelity(), LatentActivity.empty(dictionary.d_sae, document_windows(data)))

    def update(self, block: Block, dictionary: Dictionary, rivals: Mapping[str, Any], n_sample: int, largest: float) -> None:
        """Take in a block, whole windows at a time; of each, up to ``n_sample`` rows spread evenly go into the sample; ``largest`` as
        in `Block.of`."""
        import torch

        judged = torch.from_numpy(block.judged)
        hat = torch.empty_like(block.target)
        entries = []
        for part, latents, made in encoded(dictionary, block.x):
            hat[part] = made.to(hat)
            entries.append(_entries(latents, part.start, judged[part]))
        self._count(block, *(np.concatenate(column) for column in zip(*entries, strict=True)))
        sets = block.of(largest)
        for tokens in TOKENS:
            self._add(tokens, block, hat, sets[tokens])
        if judged.any():
            self.batchwise.update(block.target[judged], hat[judged])
        for name, rival in rivals.items():
            made = rival.both(block.x)[1]
            self._add(name, block, made, sets[JUDGED])
            self._add(of_usual(name), block, made, sets[USUAL])
        chosen = np.flatnonzero(block.judged)
        chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(n_sample, len(chosen))).astype(int))] if len(chosen) else chosen
        self.sample.append(torch.cat([block.target, hat], 1)[torch.from_numpy(chosen)].cpu().numpy().astype(np.float32))

    def _count(self, block: Block, rows: NDArray[np.int64], which: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        window, document = block.window[block.judged], block.document[block.judged]
        number = np.cumsum(block.judged) - 1  # of a row among the judged ones
        self.latents.take(number[rows], which, values, window, document)
        every, first = np.unique(block.window, return_index=True)
        self.latents.skip(block.document[first[~np.isin(every, window)]])

    def _add(self, name: str, block: Block, hat: Tensor, rows: NDArray[np.bool_]) -> None:
        import torch

        kept = torch.from_numpy(rows)
        self.fidelity[name].update(block.target[kept], hat[kept].to(block.target), block.document[rows])

    def merge(self, other: Observed) -> None:
        """Take in what another pass saw of other windows."""
        for name, one in self.fidelity.items():
            one.merge(other.fidelity[name])
        self.batchwise.merge(other.batchwise)
        self.latents.merge(other.latents)
        self.sample += other.sample

    def arrays(self) -> Arrays:
        """The state by name."""
        found: Arrays = {f"latents/{name}": values for name, values in self.latents.arrays().items()}
        found |= {f"batchwise/{name}": values for name, values in self.batchwise.arrays().items()}
        for one, fidelity in self.fidelity.items():
            found |= {f"fidelity/{one}/{name}": values for name, values in fidelity.arrays().items()}
        return found | {"sample": np.concatenate(self.sample) if self.sample else np.zeros((0, 0), np.float32)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Observed:
        """Back from `arrays`."""
        names = dict.fromkeys(path.split("/")[1] for path in arrays if path.startswith("fidelity/"))
        fidelity = {name: Fidelity.of_arrays(_within(arrays, f"fidelity/{name}/")) for name in names}
        batchwise = BatchwiseFidelity.of_arrays(_within(arrays, "batchwise/"))
        latents = LatentActivity.of_arrays(_within(arrays, "latents/"))
        return cls(fidelity, batchwise, latents, [arrays["sample"]])


def _within(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    return {path.removeprefix(prefix): values for path, values in arrays.items() if path.startswith(prefix)}
