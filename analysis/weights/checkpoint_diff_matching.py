"""Which tensor of one checkpoint is which of another: by name, by name behind another prefix, by shape.

1. Equal names (a tied tensor has several), equal shapes.
2. Names that are equal behind a prefix of each (``model.layers.0.w`` and ``base.model.layers.0.w``), equal shapes: the pair of prefixes
   that matches most tensors goes first.
3. What is left: where both sides have equally many tensors of a shape, in the order of their names. The weakest: it is said so.
Everything else is left unmatched, with the reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BY_NAME, BY_PREFIX, BY_SHAPE, BY_ADAPTER = "name", "prefix", "shape", "adapter"


@dataclass(frozen=True)
class Pair:
    """Two tensors taken for the same one."""

    after: Any
    base: Any
    how: str
    """``name``, ``prefix``, ``shape``; ``adapter`` where the first is what an adapter adds to the second."""
    words: str
    """How, in words."""


@dataclass(frozen=True)
class Unmatched:
    """A tensor that has none on the other side, and why."""

    side: str
    """``model`` or ``base``."""
    tensor: Any
    reason: str


@dataclass
class Matching:
    """Pairs in the order of the first side, and what is left of both."""

    pairs: list[Pair] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)


def match(after: Sequence[Any], base: Sequence[Any]) -> Matching:
    """Match the tensors of two checkpoints; values are not read. Every tensor is in one pair or in `unmatched`, once."""
    found: dict[str, Pair] = {}
    left, others = dict(_named(after)), dict(_named(base))

    def pair(one: Any, other: Any, how: str, words: str) -> None:
        found[one.name] = Pair(one, other, how, words)
        del left[one.name], others[other.name]

    names = {name: tensor for tensor in base for name in _names(tensor)}
    for one in after:
        other = next((names[name] for name in _names(one) if name in names), None)
        if other is not None and other.name in others and other.shape == one.shape:
            pair(one, other, BY_NAME, "equal names" if one.name == other.name else f"one of its names: {other.name}")
    for prefix, prefix_base in _prefixes(left.values(), others.values()):
        for one in list(left.values()):
            other = others.get(prefix_base + one.name.removeprefix(prefix)) if one.name.startswith(prefix) else None
            if other is not None and other.shape == one.shape:
                pair(one, other, BY_PREFIX, f"equal names behind the prefixes {prefix or 'none'} and {prefix_base or 'none'}")
    for shape, (ones, same) in _by_shape(left.values(), others.values()).items():
        if len(ones) == len(same):
            for place, (one, other) in enumerate(zip(ones, same)):
                words = "the only two of this shape" if len(ones) == 1 else f"number {place + 1} of {len(ones)} of shape {list(shape)}"
                pair(one, other, BY_SHAPE, words)
    unmatched = [Unmatched("model", one, _reason(one, base, others)) for one in left.values()]
    unmatched += [Unmatched("base", one, _reason(one, after, left)) for one in others.values()]
    return Matching([found[one.name] for one in after if one.name in found], unmatched)


def _named(tensors: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    return ((tensor.name, tensor) for tensor in tensors)


def _names(tensor: Any) -> tuple[str, ...]:
    return (tensor.name, *tensor.tied)


def _prefixes(left: Iterable[Any], others: Iterable[Any]) -> list[tuple[str, str]]:
    """Pairs of prefixes under which names are equal, those that match most tensors first; a name alone (its last part) is none."""
    ends: Mapping[str, list[Any]] = defaultdict(list)
    for other in others:
        for end in _ends(other.name):
            ends[end].append(other)
    counts: Counter[tuple[str, str]] = Counter()
    for one in left:
        for end in _ends(one.name):  # the longest first
            same = [other for other in ends.get(end, ()) if other.shape == one.shape]
            if same:
                for other in same:
                    counts[one.name.removesuffix(end), other.name.removesuffix(end)] += 1
                break
    return [pair for pair, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _ends(name: str) -> list[str]:
    """Its ends of two or more parts, the whole first."""
    parts = name.split(".")
    return [".".join(parts[place:]) for place in range(max(1, len(parts) - 1))]


def _by_shape(left: Iterable[Any], others: Iterable[Any]) -> dict[tuple[int, ...], tuple[list[Any], list[Any]]]:
    groups: dict[tuple[int, ...], tuple[list[Any], list[Any]]] = {}
    for side, tensors in enumerate((left, others)):
        for tensor in tensors:
            groups.setdefault(tensor.shape, ([], []))[side].append(tensor)
    return groups


def _reason(one: Any, other_side: Sequence[Any], left_there: Mapping[str, Any]) -> str:
    names = {name: tensor for tensor in other_side for name in _names(tensor)}
    same = next((names[name] for name in _names(one) if name in names), None)
    if same is not None and same.shape != one.shape:
        return f"its shape is {list(one.shape)} here and {list(same.shape)} there"
    if same is not None:
        return f"there it is tied to {same.name}, which is matched already"
    n = sum(tensor.shape == one.shape for tensor in left_there.values())
    return (
        "no tensor of its name, and none left of its shape"
        if not n
        else f"no tensor of its name, and {n} left of its shape: not clear which"
    )
