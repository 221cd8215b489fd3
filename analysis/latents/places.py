"""Places in a model where dictionaries are trained and put: the residual stream, what sublayers read and write, and what lies inside.

1. `places` finds them by running the model once (`finding`); no table of architectures is asked.
2. `reading` hands over what flows past some of them, rows of real tokens only, and can stop the pass behind the last one.
3. `changing` puts other values in their place while the model is called as always; what comes back unchanged keeps every bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from analysis.spec import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.capture import Frame, Session, Site

PlaceKind = Literal["residual", "mlp_in", "mlp_out", "attention_out", "attention_z", "ffn", "conv", "matrix"]
"""``residual``: the stream behind a block (and before the first); ``mlp_in``: what the MLP reads; ``mlp_out``, ``attention_out``: what a
sublayer adds to the stream; ``attention_z``: what the attention's output matrix reads, all heads side by side; ``ffn``, ``conv``: what
comes from an activation function; ``matrix``: what any other matrix reads."""

Take = Callable[["Place", "Tensor", "Tensor"], Any]
Change = Callable[["Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True)
class Place:
    """One place; a value, so it can be stored and compared."""

    name: str
    """Identity in this model: that of the site, or ``module:output``, ``module:input``."""
    hook_name: str
    """As TransformerLens would call it, e.g. ``blocks.12.hook_resid_post``; where it has no such name, by the module's path."""
    kind: PlaceKind
    layer: int
    width: int
    module: str
    """Path of the module whose input or output it is."""
    n_heads: int | None
    """Of attention_z: into how many equal parts the width splits; None elsewhere, and where it cannot be told."""
    site: Site = field(repr=False)
    """How it is captured: stream, layout, axis."""
    also: tuple[str, ...] = ()
    """Other names of the very same values."""
    nearly: tuple[str, ...] = ()
    """Names that stand for these values in some libraries and for values before or after a norm in others."""


def places(model: nn.Module, batch: Any, *, names: Mapping[str, str] | None = None) -> tuple[Place, ...]:
    """The places of ``model``, in order of layers, found by running it on ``batch`` (a few short examples are enough).

    ``names``: canonical names by module path where TransformerLens knows the model (`Subject.hook_names`); without them the blocks of a
    model that has one list of blocks are called ``blocks.0``, ``blocks.1`` and so on. Modules that run several times in one pass have
    no places, since nobody could say which of the times is meant.
    """
    from analysis.latents.finding import find_places

    return find_places(model, batch, names or {})


def place_named(found: Sequence[Place], name: str) -> Place:
    """The place of that identity or hook name. Raises `UserError` that lists the nearest names."""
    import difflib

    for exact in (True, False):
        for place in found:
            if name in ((place.name, place.hook_name, *place.also) if exact else place.nearly):
                return place
    known = {one: place.hook_name for place in found for one in (place.hook_name, place.name, *place.also)}
    near = list(dict.fromkeys(known[one] for one in difflib.get_close_matches(name, known, n=12, cutoff=0.5)))[:4]
    words = f"the nearest are {', '.join(near)}" if near else f"it has {', '.join(p.hook_name for p in found[:4]) or 'none'}"
    raise UserError(f"the place must be one of the {len(found)} places of this model, got {name!r}; {words}.")


# ---------------------------------------------------------------------------------------------------------------------


class _Enough(Exception):  # noqa: N818 - not an error: every place of this pass has been read
    """Ends a pass behind its last place."""


class _Taker:
    """Observer of a capture that hands everything on."""

    def __init__(self, chosen: Sequence[Place], take: Take, stop: bool) -> None:
        self._places = {place.site.name: place for place in chosen}
        self._take, self._stop = take, stop
        self.left: set[str] = set()

    def begin(self) -> None:
        """A pass starts."""
        self.left = set(self._places)

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> None:
        """One place was reached."""
        self._take(self._places[site.name], values.detach(), _numbered(values, rows))
        self.left.discard(site.name)
        if self._stop and not self.left:
            raise _Enough


class Reading:
    """A model whose places are read; made by `reading`."""

    def __init__(self, session: Session, taker: _Taker) -> None:
        self._session, self._taker = session, taker

    def run(self, batch: Any, frame: Frame | None = None) -> Any:
        """The model's output on ``batch``; None where the pass ended behind the last place. ``frame`` says which tokens count."""
        self._taker.begin()
        try:
            return self._session.run(batch, frame)
        except _Enough:
            return None


@contextlib.contextmanager
def reading(model: nn.Module, chosen: Sequence[Place], take: Take, *, stop: bool = False) -> Iterator[Reading]:
    """Read what flows past places while batches are run through ``.run(batch)``; every hook is gone afterwards.

    ``take(place, values, rows)``: values [n, width] of real tokens, detached, not to be written to; rows [n] int64, each one's index in
    the flattened [batch, positions] of its stream. ``stop``: end each pass behind the last place, which saves the layers after it.
    """
    from analysis.capture import capture

    taker = _Taker(chosen, take, stop)
    with capture(model, [place.site for place in chosen], taker) as session:
        yield Reading(session, taker)


class _Changer:
    """Observer of a capture that puts other values in."""

    def __init__(self, change: Change) -> None:
        self._change = change

    def values(self, site: Site, values: Tensor, rows: Tensor | None) -> Tensor | None:  # noqa: ARG002 - the contract of observers
        """The values to go on with."""
        new = self._change(values, _numbered(values, rows))
        return None if new is values else new.to(values.dtype)


@contextlib.contextmanager
def changing(model: nn.Module, place: Place, change: Change) -> Iterator[None]:
    """While inside, every call of ``model`` goes on with ``change(values, rows)`` [n, width] in place of the values [n, width] there.

    Rows of padding stay as they are. ``values`` must not be written to; where they are returned as they came, nothing is touched.
    On exit, also on error, the model is as before.
    """
    from analysis.capture.calling import observing_calls

    with observing_calls(model, [place.site], _Changer(change)):
        yield


def _numbered(values: Tensor, rows: Tensor | None) -> Tensor:
    import torch

    return torch.arange(len(values), device=values.device) if rows is None else rows
