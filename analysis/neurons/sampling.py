"""Values of all neurons on one sample of tokens: which tokens, and the observer that keeps them.

1. Tokens are sampled evenly over documents, seeded; the same ones for every site that sees the same positions.
2. The observer takes the sampled rows out of what flows past. An expert that a token was not sent to counts as 0 there: it adds
   nothing. Memory: sampled tokens x neurons, in 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.capture.site import TOKEN_STREAMS, Frame, Site
from analysis.neurons.observing import Lengths
from analysis.spec import UserError
from analysis.stats.correlation import spread_sample

if TYPE_CHECKING:
    from torch import Tensor

TEXT = "text"
FEWEST = 4
"""Tokens from which a correlation can be told from chance at all."""
Layout = tuple[str, int]
"""What sites must share to be compared: the sequence their rows follow, and its positions per window."""


@dataclass(frozen=True)
class Slots:
    """The sampled tokens of a layout, by window: equally long arrays."""

    window: np.ndarray
    position: np.ndarray

    def within(self, part: slice) -> slice:
        """The slots whose windows lie in a part."""
        return slice(*np.searchsorted(self.window, [part.start, part.stop]).tolist())


class Sample:
    """The sampled tokens of some data."""

    def __init__(self, data: Any, config: Any) -> None:
        self._data, self._config = data, config
        self._slots: dict[Layout, Slots] = {}
        self._masks: dict[str, np.ndarray] | None = None

    @property
    def is_text(self) -> bool:
        """Whether the inputs are windows of tokens."""
        return self._data.token_ids is not None

    def layout(self, site: Site, positions: int) -> Layout:
        """The layout of a site with that many rows per window; encoder and decoder read the same text, so it is one."""
        text = self.is_text and self._data.token_ids.shape[1] == positions
        return (TEXT if text else site.stream, positions)

    def slots(self, layout: Layout) -> Slots:
        """The sampled tokens of a layout; the same for the same data, seed and settings."""
        if layout not in self._slots:
            windows, positions = np.nonzero(self._eligible(layout))
            chosen = spread_sample(self._data.document[windows], self._config.n_sample, self._config.seed)
            if len(chosen) < FEWEST:
                raise UserError(f"the sample must hold at least {FEWEST} tokens, got {len(chosen)}; read more data, or let more tokens in.")
            self._slots[layout] = Slots(windows[chosen], positions[chosen])
        return self._slots[layout]

    def wanted(self, part: slice) -> bool:
        """Whether a batch of these windows may hold a sampled token."""
        if not self.is_text:
            return True
        here = self.slots((TEXT, self._data.token_ids.shape[1])).within(part)
        return here.stop > here.start

    def _eligible(self, layout: Layout) -> np.ndarray:
        """bool [windows, positions]: tokens that may be sampled."""
        stream, positions = layout
        found = np.ones((self._data.n_windows, positions), bool)
        if stream == TEXT:
            if not self._config.include_special:
                found &= ~self._data.special
            if not self._config.include_first:
                found[:, 0] = False
        elif stream in self._stated_masks():
            found = self._stated_masks()[stream]
        return found

    def _stated_masks(self) -> Mapping[str, np.ndarray]:
        """Which positions are no padding, by stream, as the batches state it."""
        if self._masks is None:
            found: dict[str, list[np.ndarray]] = {}
            lengths = Lengths()
            for batch, _ in self._data.batches(1):
                frame = Frame.of(batch)
                lengths.see(frame)
                for stream in TOKEN_STREAMS:
                    mask = frame.mask if stream == "input" else frame.decoder_mask
                    if mask is not None:
                        found.setdefault(stream, []).append(mask.cpu().numpy())
            self._masks = {stream: np.concatenate(masks) for stream, masks in found.items()}
        return self._masks


class SampleObserver:
    """Keeps the sampled rows of every site during one unit of windows."""

    def __init__(self, sites: Sequence[Site], sample: Sample, part: slice) -> None:
        self.sites = list(sites)
        self._index = {site.name: i for i, site in enumerate(self.sites)}
        self._sample, self._unit = sample, part
        self._windows, self._frame, self._seen = slice(0, 0), Frame(None, None), set[str]()
        self._kept: dict[tuple[int, Layout], np.ndarray] = {}

    def begin(self, windows: slice, frame: Frame) -> None:
        """The next batch holds these windows."""
        self._windows, self._frame, self._seen = windows, frame, set()

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:
        """Keep the sampled ones among the rows."""
        import torch

        if site.name in self._seen:
            raise UserError(
                f"{site.hook_name} runs more than once in a forward pass (shared layers), which neuron_correlation cannot tell apart; "
                f"neuron_weights can still be run."
            )
        self._seen.add(site.name)
        n_windows, shape = self._windows.stop - self._windows.start, self._frame.shape(site.stream)
        positions = len(values) // n_windows if shape is None else shape[1]
        layout = self._sample.layout(site, positions)
        slots = self._sample.slots(layout)
        unit, here = slots.within(self._unit), slots.within(self._windows)
        key = (self._index[site.name], layout)
        if key not in self._kept:
            self._kept[key] = np.zeros((unit.stop - unit.start, values.shape[1]), np.float32)
        place = torch.from_numpy((slots.window[here] - self._windows.start) * positions + slots.position[here]).to(values.device)
        found = torch.ones_like(place, dtype=torch.bool)
        if rows is not None:
            lookup = torch.full((n_windows * positions,), -1, dtype=torch.long, device=values.device)
            lookup[rows] = torch.arange(len(rows), device=values.device)
            place = lookup[place]
            found = place >= 0
        target = self._kept[key][here.start - unit.start : here.stop - unit.start]
        target[found.cpu().numpy()] = values[place[found]].float().cpu().numpy()

    def state(self) -> dict[str, np.ndarray]:
        """What was kept, for a checkpoint."""
        return {f"{i}|{stream}|{positions}": array for (i, (stream, positions)), array in self._kept.items()}


def gathered(
    sites: Sequence[Site], sample: Sample, parts: Mapping[str, slice], states: Iterator[tuple[str, Mapping[str, np.ndarray]]]
) -> dict[Layout, dict[str, np.ndarray]]:
    """Values [tokens, neurons] of every site that saw any, by layout and site name, from the states of all units."""
    found: dict[Layout, dict[str, np.ndarray]] = {}
    for unit, state in states:
        for name, array in state.items():
            i, stream, positions = name.split("|")
            layout, site = (stream, int(positions)), sites[int(i)]
            slots = sample.slots(layout)
            of_layout = found.setdefault(layout, {})
            if site.name not in of_layout:
                of_layout[site.name] = np.zeros((len(slots.window), array.shape[1]), np.float32)
            of_layout[site.name][slots.within(parts[unit])] = array
    return found
