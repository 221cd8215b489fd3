"""Stored windows for display: which are taken, what is kept of each, and in which of them a head is at work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.attention.lengths import Lengths
from analysis.attention.observing import key_of, place_of
from analysis.capture.attention import AttentionCall
from analysis.capture.attention_places import AttentionPlace
from analysis.capture.site import Frame
from analysis.stats.attention_examples import SHOWN, Looked, Looking, characteristic

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import Tensor

Rows = dict[str, Any]
DIGITS, CELL_DIGITS = 5, 4


def chosen_windows(data: Any, most: int, seed: int) -> NDArray[np.int64]:
    """At most ``most`` windows, ascending, spread over documents: one of each document in a seeded order, then a second, and so on."""
    random = np.random.default_rng(seed)
    order = random.permutation(data.n_windows)
    document = data.document[order]
    turn = np.zeros(len(order), np.int64)
    for name in np.unique(document):
        here = np.flatnonzero(document == name)
        turn[here] = np.arange(len(here))
    return np.sort(order[np.argsort(turn, kind="stable")[:most]])


class ExampleObserver:
    """Takes down one window at every place."""

    def __init__(self, subject: Any, places: Sequence[AttentionPlace], *, k: int, cells: int, queries: int, block: int) -> None:
        self._by_key = {key_of(p): p for p in places}
        self._subject, self._k, self._cells, self._queries, self._block = subject, k, cells, queries, block
        self._lengths = Lengths(subject.model)
        self.begin({}, Frame(None), np.zeros(0, bool))

    def begin(self, batch: Any, frame: Frame, special: NDArray[np.bool_] | None) -> None:
        """The next pass reads this window."""
        self.found: dict[tuple[str, int], Looked] = {}
        self.shapes: dict[tuple[str, int], tuple[int, int]] = {}
        self.taken: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._ids, self._frame, self._marked = stream_ids(batch, self._subject.data), frame, special

    def attention(self, call: AttentionCall) -> None:
        """One call; of an image's windows the first."""
        import torch

        place = place_of(self._by_key, call)
        _, heads, n, keys = call.shape
        real, stream = call.real_queries(), key_stream(place, self._frame, keys)
        keep = torch.ones(n, dtype=torch.bool) if real is None else real[0].cpu()
        moved = self._lengths.of(place, call)[0]
        mask = {"input": self._frame.mask, "decoder": self._frame.decoder_mask}.get(stream)
        looking = Looking(
            heads, (n, keys), np.unique(np.linspace(0, n - 1, min(n, self._queries)).round().astype(np.int64)),
            k=self._k, cells=self._cells, is_self=not place.crosses, causal=place.causal, keep=keep,
            first=0 if mask is None else int(mask[0].int().argmax()),
            tokens=None if place.crosses else self._tokens(stream, keys),
            special=self._special(stream, keys),
            moved=None if moved is None else moved[0].cpu(),
        )  # fmt: skip
        for start, logits in call.blocks(self._block):
            looking.add(start, logits.unflatten(0, (-1, heads))[0].cpu())
        self.found[key_of(place)], self.shapes[key_of(place)] = looking.found(), (n, keys)
        if (taken := call.sink_mass()) is not None:
            self.taken[key_of(place)] = taken[0].double().cpu().numpy()

    def _tokens(self, stream: str, keys: int) -> Tensor | None:
        ids = self._ids.get(stream)
        return ids[0].cpu() if ids is not None and ids.shape[1] == keys else None

    def _special(self, stream: str, keys: int) -> Tensor | None:
        import torch

        good = self._marked is not None and stream != "rows" and len(self._marked) == keys
        return torch.from_numpy(self._marked) if good and self._marked is not None else None


def stream_ids(batch: Any, data: Any) -> dict[str, Tensor]:
    """Token ids [batch, n] by stream, as far as the batch or the data tell."""
    import torch

    named = {"input": "input_ids", "decoder": "decoder_input_ids"}
    given = batch if isinstance(batch, Mapping) else {"input_ids": batch} if data.token_ids is not None else {}
    found = {stream: given.get(name) for stream, name in named.items()}
    return {s: t for s, t in found.items() if isinstance(t, torch.Tensor) and t.ndim == 2 and not t.is_floating_point()}


def key_stream(place: AttentionPlace, frame: Frame, keys: int) -> str:
    """The stream of a place's keys: that of the queries, or, of cross-attention, what the encoder read where it is as long."""
    if not place.crosses:
        return place.site.stream
    shape = frame.shape("input")
    return "input" if shape is not None and shape[1] == keys else "rows"


def place_columns(place: AttentionPlace, n: int) -> Rows:
    """The key columns of a place, n times."""
    return {"layer": [place.site.layer] * n, "hook_name": [place.site.hook_name] * n, "turn": [place.turn] * n}


def window_rows(window: int, batch: Any, frame: Frame, subject: Any) -> Rows:
    """Rows of `head_windows`: one for each token stream; of a window without tokens a single one."""
    data, rows = subject.data, []
    ids = stream_ids(batch, data)
    for stream, mask in (("input", frame.mask), ("decoder", frame.decoder_mask)):
        n = int(mask.shape[1]) if mask is not None else int(ids[stream].shape[1]) if stream in ids else None
        if n is None:
            continue
        own = ids[stream][0].tolist() if stream in ids else []
        marked = data.special[window] if data.special is not None and data.special.shape[1] == n else np.zeros(n, bool)
        padding = [] if mask is None else np.flatnonzero(~mask[0].cpu().numpy()).tolist()
        rows.append((stream, n, own, pieces_of(own, subject), np.flatnonzero(marked).tolist(), padding))
    rows = rows or [("rows", None, [], [], [], [])]
    start = int(data.start[window]) if getattr(data, "start", None) is not None else None
    names = ("stream", "n", "token_ids", "tokens", "special", "padding")
    more = {"window": [window] * len(rows), "document": [data.documents[data.document[window]]] * len(rows), "start": [start] * len(rows)}
    return more | {name: [row[i] for row in rows] for i, name in enumerate(names)}


def pieces_of(ids: Sequence[int], subject: Any) -> list[str]:
    """The exact piece of text of every token; its id in angle brackets where that is not known."""
    known = getattr(subject.data, "token_strings", None)
    if not known:
        known = dict(enumerate(subject.token_pieces() or ())) if subject.tokenizer is not None else {}
    return [known.get(int(t), f"<{t}>") for t in ids]


def example_rows(place: AttentionPlace, window: int, looked: Looked, taken: NDArray[np.float64] | None) -> Rows:
    """Rows of `head_examples`; ``taken`` [heads, queries]: by learned sinks, where there are any."""
    head, at = np.nonzero(looked.valid > 0)
    n, width = looked.valid[head, at], looked.keys.shape[2]
    kept = np.arange(width) < n[:, None]
    weights = looked.weights[head, at]
    moved = None if looked.moved is None else _lists(np.round(looked.moved[head, at], DIGITS), kept)
    return place_columns(place, len(head)) | {
        "head": head,
        "window": np.full(len(head), window),
        "query": looked.queries[at],
        "n_valid": n,
        "keys": _lists(looked.keys[head, at], kept),
        "weights": _lists(np.round(weights, DIGITS), kept),
        "moved": [None] * len(head) if moved is None else moved,
        "mass_kept": np.minimum(1.0, (weights * kept).sum(1)),
        "entropy": np.abs(looked.entropy[head, at]),  # a one-hot row's is -0
        "learned_sink": [None] * len(head) if taken is None else taken[head, looked.queries[at]],
    }


def _lists(values: NDArray[Any], kept: NDArray[np.bool_]) -> pa.ListArray:
    """A list per row of those that are kept, in order."""
    import pyarrow as pa

    ends = np.concatenate([[0], kept.sum(1).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values[kept]))


def map_rows(place: AttentionPlace, window: int, looked: Looked, shape: tuple[int, int]) -> Rows:
    """Rows of `head_maps`."""
    heads = place.heads
    columns = {"n_queries": shape[0], "n_keys": shape[1], "query_step": looked.cell_size[0], "key_step": looked.cell_size[1]}
    cells = np.minimum(1.0, np.round(looked.cells.reshape(heads, -1), CELL_DIGITS))
    return place_columns(place, heads) | {
        "head": np.arange(heads),
        "window": [window] * heads,
        **{name: [value] * heads for name, value in columns.items()},
        "cells": _lists(cells, np.ones_like(cells, bool)),
        "rows": looked.cell_rows.tolist(),
    }


def state_of(places: Sequence[AttentionPlace], found: Mapping[tuple[str, int], Looked]) -> dict[str, NDArray[Any]]:
    """What ranking windows needs of one window: by number of the place [heads, SHOWN], then the mass kept and the queries counted."""
    state = {}
    for i, place in enumerate(places):
        if (looked := found.get(key_of(place))) is None:
            continue
        n, kept = (looked.valid > 0).sum(1), looked.weights * (np.arange(looked.keys.shape[2]) < looked.valid[..., None])
        mass = np.where(n > 0, kept.sum((1, 2)) / np.maximum(n, 1), np.nan)
        state[str(i)] = np.column_stack([looked.shown, mass, looked.rows])
    return state


def ranked(places: Sequence[AttentionPlace], states: Mapping[int, Mapping[str, NDArray[Any]]]) -> Iterator[tuple[int, Rows]]:
    """Number of the place and its rows of `head_at_work`, place by place. ``states``: by window what `state_of` kept."""
    windows = sorted(states)
    seen = [i for i in range(len(places)) if all(str(i) in states[w] for w in windows)]
    values = {i: np.stack([states[w][str(i)] for w in windows]) for i in seen}
    shown = {i: _mean(values[i][:, :, : len(SHOWN)], values[i][:, :, -1]) for i in seen}
    every = np.concatenate([shown[i] for i in seen])
    typical = [float(np.median(column[~np.isnan(column)])) if (~np.isnan(column)).any() else None for column in every.T]
    most, at = characteristic(every), 0
    for i in seen:
        by = most[at : at + places[i].heads]
        at += places[i].heads
        yield i, _ranked(places[i], windows, values[i], by, typical)


def _mean(values: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over windows [heads, SHOWN] of values [windows, heads, SHOWN], each weighing by its queries; NaN where none has it."""
    weight = np.where(np.isnan(values), 0.0, rows[..., None])
    total = weight.sum(0)
    return np.where(total > 0, np.where(np.isnan(values), 0.0, values * weight).sum(0) / np.maximum(total, 1), np.nan)


def _ranked(place: AttentionPlace, windows: list[int], values: NDArray[np.float64], by: NDArray[np.int64], typical: list[Any]) -> Rows:
    rows: Rows = place_columns(place, place.heads * len(windows))
    more: Rows = {name: [] for name in ("head", "window", "rank", "measure", "value", "typical", "mass_kept", "n_rows")}
    for head, measure in enumerate(by.tolist()):
        found = values[:, head, measure]
        order = np.argsort(np.where(np.isnan(found), np.inf, -found), kind="stable")
        for rank, w in enumerate(order.tolist(), 1):
            value, mass = float(found[w]), float(values[w, head, len(SHOWN)])
            one = (head, windows[w], rank, SHOWN[measure], _known(value), typical[measure], _known(mass), int(values[w, head, -1]))
            for name, entry in zip(more, one, strict=True):
                more[name].append(entry)
    return rows | more


def _known(value: float) -> float | None:
    return None if value != value else min(1.0, max(0.0, value))
