"""An answer of the playground as pages get it. Plain values, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Next = tuple[int, float]
"""A next token: its id and its probability."""
LayerShare = tuple[int, str, float]
"""Layer, hook name, share."""


@dataclass(frozen=True)
class LensRows:
    """What the model would answer if its blocks ended after each layer."""

    first: int
    """Token of the first column."""
    names: tuple[str, ...]
    """Of the rows: the embedding, then each block."""
    ids: tuple[tuple[int, ...], ...]
    """[rows][tokens]: the most probable next token."""
    p: tuple[tuple[float, ...], ...]
    """Its probability."""


@dataclass(frozen=True)
class Continued:
    """A text that the model wrote."""

    ids: tuple[int, ...]
    ended: bool
    """Whether it came to an end by itself."""


@dataclass(frozen=True)
class Arm:
    """One state of the model on the text: as it is, or with something taken away. Lists by token."""

    neurons: tuple[LayerShare, ...]
    """Share of neurons that are active, mean over tokens."""
    attention: tuple[LayerShare, ...]
    """Share of keys that hold 90 % of a query's attention, mean over heads and queries."""
    next: tuple[tuple[Next, ...], ...] | None
    """The most probable next tokens at each token; None where the model predicts none."""
    loss: tuple[float | None, ...] | None
    """Surprise of each token given those before it, in nats; None where it is not scored, or infinite."""
    mean_loss: float | None
    n_scored: int
    values: tuple[float | None, ...] | None
    """What the chosen unit does: an activation; of a head the mean weight that the token gets."""
    norms: tuple[float, ...] | None
    """Of a head the length of what it gives at each token."""
    looks: tuple[tuple[tuple[int, float], ...], ...] | None
    """Of a head where each token looks: keys and their weights, largest first."""
    text: Continued | None
    lens: LensRows | None
    no_lens: str | None
    """Why there is no lens, in a sentence; None where there is one, or where none was asked for."""

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Arm:
        """The arm that arrived."""
        text, lens = given["text"], given["lens"]
        plain = {name: given[name] for name in ("mean_loss", "n_scored", "no_lens")}
        return cls(
            **plain,
            loss=_list(given["loss"]),
            values=_list(given["values"]),
            norms=_list(given["norms"]),
            neurons=tuple((layer, name, share) for layer, name, share in given["neurons"]),
            attention=tuple((layer, name, share) for layer, name, share in given["attention"]),
            next=None if given["next"] is None else tuple(tuple((int(i), p) for i, p in row) for row in given["next"]),
            looks=None if given["looks"] is None else tuple(tuple((int(k), v) for k, v in row) for row in given["looks"]),
            text=None if text is None else Continued(tuple(text["ids"]), text["ended"]),
            lens=None if lens is None else LensRows(lens["first"], tuple(lens["names"]), _rows(lens["ids"]), _rows(lens["p"])),
        )


def _list(given: Any) -> tuple[Any, ...] | None:
    return None if given is None else tuple(given)


def _rows(given: Any) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(row) for row in given)


@dataclass(frozen=True)
class AppliedStep:
    """An intervention as it was applied."""

    slug: str
    level: float
    achieved: float
    """Share removed of the denominator, counted on this text where it was counted."""
    denominator: str
    native_value: float | None
    native_unit: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Played:
    """The text as the model saw it, and what each state of the model made of it."""

    tokens: tuple[str, ...]
    """Exact pieces of text."""
    ids: tuple[int, ...]
    special: tuple[bool, ...]
    pieces: Mapping[int, str]
    """The text of every id in the answer."""
    dense: Arm
    sparse: Arm | None
    """None where nothing was taken away."""
    kl: tuple[float | None, ...] | None
    """KL(dense || sparse) of what is predicted at each token, in nats; of a model without logits the relative error of its output."""
    same: tuple[bool, ...] | None
    """Whether the first choice stayed; None without logits."""
    applied: tuple[AppliedStep, ...]
    speaks: bool
    """Whether its output are logits over tokens."""
    causal: bool
    task: str | None
    """What its head is for: ``causal-lm``, ``masked-lm``, ``seq2seq-lm``, ``encoder``; None for other heads."""
    is_row: bool
    """Whether it is about a row of data: one name in ``tokens``, and classes in place of tokens."""
    label: str
    """The model, for people (foreign text)."""
    neurons: tuple[tuple[int, int], ...]
    """Layers with neurons to name, and how many."""
    heads: tuple[tuple[int, int], ...]
    """Layers with heads to name, and how many."""
    seconds: float

    @property
    def now(self) -> Arm:
        """The last state: with what is taken away, else dense."""
        return self.sparse or self.dense

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Played:
        """The answer that arrived."""
        sparse, kl, same = (given[name] for name in ("sparse", "kl", "same"))
        about, units = given["about"], given["units"]
        return cls(
            tokens=tuple(given["tokens"]),
            ids=tuple(given["ids"]),
            special=tuple(given["special"]),
            pieces={int(i): piece for i, piece in given["pieces"].items()},
            dense=Arm.from_json(given["dense"]),
            sparse=None if sparse is None else Arm.from_json(sparse),
            kl=None if kl is None else tuple(kl),
            same=None if same is None else tuple(same),
            applied=tuple(AppliedStep(**{**one, "notes": tuple(one["notes"])}) for one in given["applied"]),
            speaks=about["text"],
            causal=about["causal"],
            task=about["task"],
            is_row=about["row"],
            label=about["label"],
            neurons=tuple((layer, n) for layer, n in units["neurons"]),
            heads=tuple((layer, n) for layer, n in units["heads"]),
            seconds=given["seconds"],
        )
