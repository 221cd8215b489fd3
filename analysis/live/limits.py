"""How much memory a live model takes, told before it is started. Loads no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.jobs import memory
from analysis.spec import UserError
from store.errors import size_words

LIBRARIES = 6 * 10**8
"""Bytes of Python with torch and transformers. Measured in all, loaded: 0.58 GB for MiniLM (0.09 GB of weights), 1.10 GB for SmolLM2
(0.54 GB)."""
_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def needed(weights: int) -> int:
    """Bytes: the libraries, the weights as stored, and a quarter of them again for the activations of one text."""
    return LIBRARIES + weights + weights // 4


def needed_by(facts: Mapping[str, Any], dtype: str) -> int | None:
    """Bytes, from what a run recorded of its model; None where it did not count the parameters."""
    n = facts.get("n_parameters")
    return needed(n * _ITEM_BYTES.get(dtype, 1)) if isinstance(n, int) else None


def check_memory(model: str, subject: Any) -> None:
    """Refuse a model that the free memory cannot hold; exactly, where its subject has been opened."""
    sizes = memory.sizes_of_files(model) if subject is None else memory.sizes_of_subject(subject)
    if sizes is None:
        return
    need, room = needed(sizes.weights), memory.free()
    if need > room:
        raise UserError(
            f"the memory for the live model of {model} must be about {size_words(need)}, got {size_words(room)} free; "
            f"stop another live model or a job, or set {memory.ROOM} to the gigabytes it may use if you know better."
        )


def check_copy(model: Any) -> None:
    """Refuse to hold a second copy of a model's weights where the free memory has no room for it: what prunes weights keeps one."""
    need = sum(parameter.nbytes for parameter in model.parameters()) * 3 // 2  # the copy, and the scores of a few matrices
    room = memory.free()
    if need > room:
        raise UserError(
            f"the memory to prune this model in place must be about {size_words(need)}, got {size_words(room)} free; stop another live "
            f"model or a job, or choose an intervention on activations or attention."
        )
