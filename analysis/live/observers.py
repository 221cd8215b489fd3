"""Observers of one pass of the live model: how often sites run, and what some neurons do there. Part of the worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.capture import Site


class Enough(Exception):
    """Everything that was asked has been seen: what comes behind it in the model need not run."""


@dataclass
class Counts:
    """An observer that counts how often each site runs."""

    of: dict[str, int] = field(default_factory=dict)

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:  # noqa: ARG002 - contract
        """Once more."""
        self.of[site.name] = self.of.get(site.name, 0) + 1


@dataclass
class Seen:
    """The observer: keeps the asked neurons' values and the norm of the FFN's output at every token."""

    neurons: tuple[int, ...]
    until: list[Site] | None
    """Sites after which the pass may stop; None to run all of it."""
    _values: dict[str, np.ndarray] = field(default_factory=dict)
    _scale: dict[str, np.ndarray] = field(default_factory=dict)
    _rows: dict[str, np.ndarray] = field(default_factory=dict)

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:
        """What flows there."""
        if site.name in self._values:
            raise UserError(
                f"{site.hook_name} runs more than once in a forward pass (shared layers), which cannot be told apart; ask another."
            )
        # An integer index copies: nothing of the pass is kept.
        self._values[site.name] = values[:, list(self.neurons)].float().cpu().numpy()
        if rows is not None:
            self._rows[site.name] = rows.cpu().numpy()
        if not site.product:
            self._stop()

    def product(self, site: Site, values: Tensor, rows: Tensor | None, output: Tensor, gate: Tensor | None, up: Tensor | None) -> None:  # noqa: ARG002 - contract
        """What the FFN writes. In float32, as `neuron_activity` does."""
        self._scale[site.name] = output.float().norm(dim=1).cpu().numpy()
        self._stop()

    def _stop(self) -> None:
        """Raise once every awaited site has been seen, with its output where that is looked at."""
        if self.until is not None and all(s.name in (self._scale if s.product else self._values) for s in self.until):
            raise Enough

    def of(self, site: Site) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Values [rows, neurons], output norms [rows] and the tokens the rows belong to (None: all, in order)."""
        if site.name not in self._values:  # an expert that no token of this text was sent to
            return np.zeros((0, len(self.neurons)), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
        return self._values[site.name], self._scale.get(site.name), self._rows.get(site.name)


def share(written: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """|a| ||w_out|| / ||FFN(x)||; NaN, which becomes null, where the FFN writes nothing."""
    return np.divide(written, whole, out=np.full(len(written), np.nan), where=whole > 0, dtype=np.float64)


def spread(values: np.ndarray, where: np.ndarray | None, n_tokens: int) -> list[Any]:
    """One entry per token: null where the site did not see the token or the value is not finite."""
    plain = [v if isinstance(v, bool) or np.isfinite(v) else None for v in values.tolist()]
    if where is None:
        return plain
    found: list[Any] = [None] * n_tokens
    for place, value in zip(where.tolist(), plain):
        found[place] = value
    return found
