"""Tables of `allocation`."""

from __future__ import annotations

from analysis.sensitivity.columns import ANY, LAYER, LEVEL, N_DOCUMENTS, N_MEASURED, N_WEIGHTS, OF_MATRIX, ROLE, TENSOR
from analysis.sensitivity.tables import LOSSES, POINTS, SCOPE, WHERE
from analysis.spec import Column, Table

_ENDLESS = "NULL where one of the two losses is infinite or no number"

SHARES = Table(
    "allocation",
    "Which share of each matrix goes, at each overall level.",
    ("level", "tensor"),
    (
        LEVEL,
        TENSOR,
        LAYER,
        ROLE,
        N_WEIGHTS,
        Column(
            "share",
            "float",
            "Share of it to be removed: 0 where it was not measured",
            unit=OF_MATRIX,
            range=(0, 1),
            evidence="O",
        ),
        Column("predicted", "float", "Increase of the loss that this matrix alone is predicted to cause", range=(0, 1e308), evidence="O"),
        Column("measured", "bool", "Whether the given run has its curve"),
    ),
)

OUTCOMES = Table(
    "allocation_outcomes",
    "What the allocation costs beside other ways of sharing the level out: paired differences on the same documents.",
    ("level", "other"),
    (
        LEVEL,
        Column("other", "str", "dense, or the other way: uniform, erk, owl, global"),
        Column("split", "str", "Which documents were measured: others than those the allocation was chosen on"),
        Column("unit", "str", "Unit of the differences"),
        Column(
            "difference",
            "float",
            f"Loss with the allocation minus loss with the other, on the same positions; {_ENDLESS}",
            range=ANY,
            optional=True,
            evidence="O",
        ),
        Column(
            "low", "float", f"Lower end of its 95 % interval over documents; NULL for one document; {_ENDLESS}", range=ANY, optional=True
        ),
        Column("high", "float", f"Upper end of it; NULL for one document; {_ENDLESS}", range=ANY, optional=True),
        Column("predicted", "float", "Predicted increase of the allocation above dense, the sum over matrices", range=(0, 1e308)),
        Column("words", "str", "Which is better, or that they cannot be told apart"),
        N_MEASURED,
        N_DOCUMENTS,
    ),
    summary=True,
)

TABLES = (POINTS, OUTCOMES, SHARES, LOSSES, WHERE, SCOPE)
