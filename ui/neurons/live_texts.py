"""The texts of a neuron's examples, to be put into the box of the live model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from store import RunInfo
from ui.neurons import queries
from ui.neurons.units import find, sites

MOST = 12
_KINDS = ("top", "quantile", "bottom")
_SPECIAL = re.compile(r"<\|.*\|>|<(s|/s|pad|bos|eos|mask|cls|sep)>|\[(CLS|SEP|PAD|MASK)\]", re.IGNORECASE)
_BYTES = re.compile(r"(?:\\x[0-9a-f]{2})+")
_CLOSE = re.compile(r"\s+([.,;:!?)\]}'’”])|([(\[{“‘])\s+")


def example_texts(run: RunInfo, layer: int, hook_name: str, neuron: int) -> dict[str, str]:
    """Up to `MOST` examples of a neuron, label (``Top 1``) to text: the stretch around the peak that the run kept values of."""
    return texts_of(queries.examples(run, find(sites(run), str(layer), str(neuron), hook_name)))


def texts_of(frame: Any) -> dict[str, str]:
    """The same of examples that have been read with their windows."""
    found: dict[str, str] = {}
    rows = frame.to_dict("records") if "tokens" in frame else []
    for row in sorted(rows, key=lambda one: _KINDS.index(one["kind"])):
        if len(found) < MOST and not isinstance(row["tokens"], float) and row["tokens"] is not None:
            first = int(row["first"])
            text = text_of(list(row["tokens"])[first : first + len(row["strip"])])
            if text.strip():
                found[f"{str(row['kind']).capitalize()} {int(row['rank']) + 1}"] = text
    return found


def text_of(pieces: Sequence[str]) -> str:
    """A text that gives these pieces again, as far as one can: special tokens are left out, since the tokenizer adds its own.

    Pieces of a word-piece vocabulary (``##ing``) hold no spaces: they are put between words, and taken away before full stops.
    Bytes that are no character alone (``\\xf0``) become characters again with their neighbours.
    """
    kept = [piece for piece in pieces if not _SPECIAL.fullmatch(piece.strip())]
    if not any(" " in piece for piece in kept) and len(kept) > 1:
        words = "".join(piece[2:] if piece.startswith("##") else f" {piece}" for piece in kept).strip()
        return _CLOSE.sub(r"\1\2", words)
    return _BYTES.sub(_character, "".join(kept))


def _character(found: re.Match[str]) -> str:
    written = bytes.fromhex(found[0].replace("\\x", ""))
    try:
        return written.decode("utf-8")
    except UnicodeDecodeError:
        return found[0]  # the rest of the character lies outside the stretch
