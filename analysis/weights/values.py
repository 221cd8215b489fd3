"""What must be said of a checkpoint's values before numbers about them are read: what was not read, and what was read as something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def refusal(subject: Any) -> str | None:
    """Why a question about weights has no answer here: those of the blocks are packed integers. None where they can be read."""
    if not subject.facts.get("only_scales"):
        return None
    return (
        f"{subject.label} holds the weights of its blocks as packed integers, which are not read, so that scales alone would be measured; "
        "give a checkpoint that is not quantised, or a GGUF file, which is dequantised when it is opened."
    )


def notes_of(subject: Any, tensors: Sequence[Any]) -> list[str]:
    """What the files say about how the values came about, and what was done with odd types."""
    said = [note for note in subject.facts.get("notes", ()) if "quantised" in note]
    if any(t.dtype.startswith("float8") for t in tensors):
        said.append("8-bit floating-point weights are measured as stored; scales kept in other tensors are not applied")
    return said
