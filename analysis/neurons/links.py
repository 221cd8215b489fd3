"""Comparing every neuron with every other: what `neuron_weights` and `neuron_correlation` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from analysis.capture.site import Site
from analysis.neurons.link_tables import HELD

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Comparable:
    """Sites whose neurons may be compared: for each a matrix of unit rows, and which neurons these are."""

    sites: list[Site]
    make: Callable[[Site], tuple[Tensor, np.ndarray]]
    """Unit rows [kept, d] of a site, and the neurons kept [kept]: those that have a direction."""

    def __post_init__(self) -> None:
        self._kept: dict[str, tuple[Tensor, np.ndarray]] = {}
        self._bytes = 0

    def of(self, site: Site) -> tuple[Tensor, np.ndarray]:
        """Unit rows and neurons of a site, made at most once while there is room."""
        if site.name in self._kept:
            return self._kept[site.name]
        made = self.make(site)
        size = made[0].numel() * made[0].element_size()
        if self._bytes + size <= HELD:
            self._kept[site.name] = made
            self._bytes += size
        return made

    def links(self, site: Site, k: int) -> Links:
        """The k most similar neurons of every neuron of a site, among all sites."""
        from analysis.stats.nearest import nearest

        rows, neurons = self.of(site)
        own = next(i for i, s in enumerate(self.sites) if s.name == site.name)
        value, group, place = (t.cpu().numpy() for t in nearest(rows, _Rows(self), k, own))
        row, rank = np.nonzero(np.isfinite(value))
        group, place = group[row, rank], place[row, rank]
        other = np.zeros(len(row), np.int64)
        for g in np.unique(group):
            here = group == g
            other[here] = self.of(self.sites[g])[1][place[here]]
        return Links(neurons[row], rank, group, other, np.clip(value[row, rank].astype(np.float64), -1.0, 1.0))

    def highest(self, rows: Tensor) -> np.ndarray:
        """The highest inner product of each of some unit rows with those of all sites."""
        from analysis.stats.nearest import nearest

        return np.clip(nearest(rows, _Rows(self), 1)[0][:, 0].cpu().numpy().astype(np.float64), -1.0, 1.0)


class _Rows(Sequence[Any]):
    """The unit rows of each site, made as they are asked for."""

    def __init__(self, comparable: Comparable) -> None:
        self._all = comparable

    def __len__(self) -> int:
        return len(self._all.sites)

    def __getitem__(self, i: Any) -> Any:
        return self._all.of(self._all.sites[i])[0]


@dataclass
class Links:
    """Links from the neurons of one site, an entry each."""

    neuron: np.ndarray
    rank: np.ndarray
    group: np.ndarray
    """Index of the other neuron's site."""
    other: np.ndarray
    value: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """The highest value of each neuron that has a link."""
        return self.value[self.rank == 0]

    def rows(self, site: Site, sites: Sequence[Site]) -> dict[str, Any]:
        """The columns `UNIT`, ``rank`` and `OTHER`."""
        layers = np.array([s.layer for s in sites], np.int64)
        names = pa.array([s.hook_name for s in sites], pa.string())
        return site_columns(site, len(self.neuron)) | {
            "neuron": self.neuron,
            "rank": self.rank,
            "other_layer": layers[self.group],
            "other_hook_name": names.take(pa.array(self.group)),
            "other_neuron": self.other,
        }


def site_columns(site: Site, n: int) -> dict[str, Any]:
    """The columns `SITE` of n rows."""
    return {"layer": np.full(n, site.layer), "hook_name": pa.repeat(site.hook_name, n)}
