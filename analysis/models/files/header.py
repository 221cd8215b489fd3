"""What a model file says of itself before any of its values is read, and the sentences that refuse one."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.spec import UserError

MAX_TENSORS = 200_000
MAX_NAME = 512
MAX_DIMS = 16
MAX_EMPTY_SIDE = 2**24
"""Longest side of a tensor without elements: whatever is made per row or per column of it must still fit into memory."""
_SHOWN = 80
_DEEPEST = 32
"""Levels of the tree of modules: a name of five hundred dots is no reason to go five hundred deep."""


class Refused(UserError):
    """A file that is not opened; its text names the file, the tensor or the entry, and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored tensor, by its header."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As torch names it; the type's own name where torch has none (GGUF's ``Q4_K``)."""
    n_bytes: int
    file: str = ""
    """Name of the file it is in, where there are several."""
    tied: tuple[str, ...] = ()
    """Further names of the same tensor."""

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def is_weight(self) -> bool:
        """Whether it holds real numbers, rather than indices, masks or counters."""
        return not self.dtype.startswith(("int", "uint", "bool", "I8", "I16", "I32", "I64"))


@dataclass(frozen=True)
class Branch:
    """A module in the tree of names: itself, what is below it, and the sums over both."""

    name: str
    n_tensors: int
    n_parameters: int
    n_bytes: int
    children: tuple[Branch, ...]


@dataclass(frozen=True)
class Step:
    """One checkpoint of a series."""

    step: int
    path: Path


@dataclass(frozen=True)
class Header:
    """What is known of a file or folder before its weights are read. Every text in it may come from a stranger: show it as text."""

    path: Path
    kind: str
    """``safetensors``, ``gguf``, ``torch``, ``pickle``, ``exported``, ``zip``, ``folder``, ``series``, or what else it is."""
    kind_words: str
    n_bytes: int
    """Of all its weight files."""
    files: tuple[str, ...] = ()
    tensors: tuple[Entry, ...] = ()
    """Empty where the file must be converted first: `must_convert`."""
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    seems: str = "unknown"
    """What kind of model it seems to be, in words."""
    missing: tuple[str, ...] = ()
    """Sentences: what is not there and which questions that leaves out."""
    notes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    must_convert: bool = False
    can_run: bool = False
    """Whether a config tells the architecture, so that the model can be built and run."""
    refusal: str | None = None
    """Why it is not opened; None where it is."""

    @functools.cached_property
    def n_parameters(self) -> int | None:
        """Elements of all real-valued tensors, buffers among them, tied ones once; None where they are not listed yet."""
        return None if self.must_convert else sum(entry.numel for entry in self.tensors if entry.is_weight)

    @functools.cached_property
    def tied(self) -> tuple[tuple[str, ...], ...]:
        """Groups of names of one tensor."""
        return tuple((entry.name, *entry.tied) for entry in self.tensors if entry.tied)

    @functools.cached_property
    def by_type(self) -> dict[str, tuple[int, int, int]]:
        """Tensors, elements and bytes of every type."""
        sums: dict[str, list[int]] = {}
        for entry in self.tensors:
            of = sums.setdefault(entry.dtype, [0, 0, 0])
            of[0] += 1
            of[1] += entry.numel
            of[2] += entry.n_bytes
        return {name: (n, numel, n_bytes) for name, (n, numel, n_bytes) in sums.items()}

    def tree(self) -> Branch:
        """The tensors by module, in the order of the file."""
        root = _Node()
        for entry in self.tensors:
            numel, node = entry.numel if entry.is_weight else 0, root
            root.add(numel, entry.n_bytes)
            for part in entry.name.split(".")[:-1][:_DEEPEST]:
                node = node.children.setdefault(part, _Node())
                node.add(numel, entry.n_bytes)
        return root.branch("")

    def as_json(self) -> dict[str, Any]:
        """Everything but the tensors, as JSON."""
        return {
            "kind": self.kind,
            "bytes": self.n_bytes,
            "n_tensors": len(self.tensors),
            "n_parameters": self.n_parameters,
            "seems": self.seems,
            "missing": list(self.missing),
            "notes": list(self.notes),
            "refusal": self.refusal,
        }


class _Node:
    """A module whose sums are still growing."""

    __slots__ = ("children", "sums")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.sums = [0, 0, 0]

    def add(self, numel: int, n_bytes: int) -> None:
        sums = self.sums
        sums[0] += 1
        sums[1] += numel
        sums[2] += n_bytes

    def branch(self, name: str) -> Branch:
        n_tensors, n_parameters, n_bytes = self.sums
        return Branch(name, n_tensors, n_parameters, n_bytes, tuple(node.branch(below) for below, node in self.children.items()))


def quoted(text: object) -> str:
    """A stranger's text as it may stand in a sentence: quoted, escaped, short."""
    whole = ascii(text) if not isinstance(text, str) or not text.isprintable() else repr(text)
    return whole if len(whole) <= _SHOWN else f"{whole[:_SHOWN]}..."


def check_name(name: Any, where: str) -> str:
    """A tensor's name, which is text and never becomes a path. Raises `Refused` for what no module path looks like."""
    if not isinstance(name, str) or not name or len(name) > MAX_NAME or not name.isprintable():
        raise Refused(f"{where} must name its tensors in 1 to {MAX_NAME} printable characters, got {quoted(name)}; save the model again.")
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        raise Refused(f"{where} must name its tensors by modules, got the path {quoted(name)}; do not use a file from this source.")
    return name


def check_shape(name: str, shape: Any, where: str) -> tuple[int, ...]:
    """The shape of a tensor, of whole numbers that fit into memory. Raises `Refused`."""
    sides = tuple(shape) if isinstance(shape, list | tuple) else None
    if sides is None or len(sides) > MAX_DIMS or any(type(side) is not int or side < 0 for side in sides):
        raise Refused(
            f"{where} must give every tensor a shape of at most {MAX_DIMS} whole numbers, got {quoted(shape)} for "
            f"{quoted(name)}; get it again."
        )
    if 0 in sides and max(sides) > MAX_EMPTY_SIDE:
        raise Refused(
            f"{where} must give tensors without elements sides of at most {MAX_EMPTY_SIDE:,}, got {max(sides):,} for {quoted(name)}; "
            "do not use a file from this source."
        )
    return sides


def check_count(n: int, where: str) -> None:
    """Raise `Refused` for more tensors than any model has."""
    if n > MAX_TENSORS:
        raise Refused(f"{where} must hold at most {MAX_TENSORS:,} tensors, got {n:,}; merge them, or split the file.")


def size_words(n: int) -> str:
    """Bytes for people."""
    if n > 10**18:
        return "more than a billion GB"  # a claim, which may have thousands of digits
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n} bytes"
