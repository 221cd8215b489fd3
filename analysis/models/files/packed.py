"""Weights that a checkpoint holds as packed integers (GPTQ, AWQ, bitsandbytes, 4-bit floats): they are not read, and that is said.

Told by type and shape: a table of narrow integers. Counters, masks, positions and indices are none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from analysis.models.files.header import Entry

_PACKED = {
    "int8", "uint8", "int16", "uint16", "int32", "uint32", "float4_e2m1fn_x2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz",
    "F6_E2M3", "F6_E3M2",
}  # fmt: skip
"""Types weights are packed into that no question reads; indices are 64 bits wide, masks are boolean."""
_NO_WEIGHT = re.compile(r"mask|position|attn\.bias$|num_batches_tracked$")
_BLOCK = re.compile(r"\.\d+\.")
_NAMED = 3


def packed_in(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that hold packed weights."""
    return [e for e in entries if e.dtype in _PACKED and len(e.shape) >= 2 and e.numel and not _NO_WEIGHT.search(e.name)]


def note_of(packed: Sequence[Entry]) -> str | None:
    """How many tensors with how many numbers are not measured, the first by name, and what to do; None where there are none."""
    if not packed:
        return None
    names, more = ", ".join(e.name for e in packed[:_NAMED]), ", …" * (len(packed) > _NAMED)
    one = len(packed) == 1
    return (
        f"{len(packed):,} integer tensor{'' if one else 's'} with {sum(e.numel for e in packed):,} numbers {'is' if one else 'are'} not "
        f"measured ({names}{more}), the weights of a quantised model as it seems; open a checkpoint that is not quantised, or a GGUF file"
    )


def only_scales(packed: Sequence[Entry], matrices: Collection[tuple[str, Any]]) -> bool:
    """Whether the blocks' matrices (name, layer) that can be read are no more than what belongs to the packed ones: scales.

    Of a model without blocks all matrices are asked.
    """
    if not packed:
        return False
    owners = {e.name.rpartition(".")[0] for e in packed}
    in_blocks = any(_BLOCK.search(e.name) for e in packed)
    return all(_belongs(name, owners) or (in_blocks and layer is None) for name, layer in matrices)


def _belongs(name: str, owners: Collection[str]) -> bool:
    """Whether it lies in one of the modules, at any depth: bitsandbytes keeps what belongs to ``q.weight`` as ``q.weight.absmax``."""
    parts = name.split(".")
    return any(".".join(parts[:n]) in owners for n in range(1, len(parts)))
