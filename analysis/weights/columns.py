"""Columns and ranges that several tables about weights share."""

from __future__ import annotations

from analysis.spec import Column, Evidence

SHARE = (0.0, 1.0)
COUNT = (0, 1e18)
SIZE = (0, 1e300)
"""Of a norm, a magnitude or a ratio of them."""

STEP = Column("step", "int", "The checkpoint's number, from its name", unit="steps", range=COUNT)
TENSOR = Column("tensor", "str", "Name of the parameter")
LAYER = Column("layer", "int", "Index of the block it belongs to, from 0; NULL outside of blocks", range=(0, 1e6), optional=True)
BLOCK = Column("layer", "int", "Index of the block, from 0", range=(0, 1e6))
"""Of tables that are about blocks only."""
KIND = Column("kind", "str", "embedding, unembedding, attention, ffn, conv, linear, norm, bias or other, by owner and name")
MATRIX_KIND = Column("kind", "str", "embedding, unembedding, attention, ffn, conv, linear or other, by owner and name")
ROLE = Column("role", "str", "Name without the block's index: the same matrix in every block has the same role")
SHAPE = Column("shape", "list[int]", "Sizes of its axes, as stored", range=COUNT)
STRUCTURE = Column(
    "structure",
    "str",
    "What its zeros make it: dense (at most 1 % zeros), rows, columns, rows and columns, N of M kept, blocks of a side, unstructured, "
    "all zero, constant; not finite; or vector",
    evidence="O",
)
STRUCTURE_SHARE = Column(
    "structure_share",
    "float",
    "Zeros that lie in that structure / zeros; NULL where there is none",
    unit="share of the zeros",
    range=SHARE,
    optional=True,
    evidence="O",
)


def optional_share(name: str, description: str, evidence: Evidence = "O") -> Column:
    """A share of something, 0 to 1, that may be missing; the description says where."""
    return Column(name, "float", description, unit="share", range=SHARE, optional=True, evidence=evidence)
