"""The tables of `weight_sparsity` about where in a matrix its zeros lie, about its lines, and about the scales of norms."""

from __future__ import annotations

from analysis.spec import Column, Table
from analysis.weights.columns import COUNT, LAYER, ROLE, SHARE, SIZE, TENSOR

PATTERN_ROWS = Table(
    "tensor_patterns",
    "A row per matrix, direction and N of M: how many groups have at most N non-zeros, and what keeping the N largest would retain.",
    ("tensor", "along", "pattern"),
    (
        TENSOR,
        LAYER,
        ROLE,
        Column("along", "str", "Direction of the groups: input (what hardware reads) or output (the transposed matrix, as in the backward pass)"),
        Column("pattern", "str", "N of M kept: at most N non-zeros in M consecutive weights"),
        Column("keep", "int", "N", range=(1, 8)),
        Column("of", "int", "M", range=(2, 8)),
        Column("n_groups", "int", "Groups of M", unit="groups", range=COUNT),
        Column("n_conforming", "int", "Groups with at most N non-zeros", unit="groups", range=COUNT),
        Column("n_empty", "int", "Groups that are all zero, which conform trivially", unit="groups", range=COUNT),
        Column("n_left_over", "int", "Weights at the ends of the lines that fill no group", unit="weights", range=COUNT),
        Column("conforming_share", "float", "Conforming groups / groups; NULL where lines are shorter than M", unit="share of the groups", range=SHARE, optional=True, evidence="C"),
        Column("retained_energy", "float", "Squares left when the N largest |w| of each group are kept / squares; NULL for all-zero matrices", unit="share of the squares", range=SHARE, optional=True, evidence="C"),
        Column("first_line", "int", "First line with a group of more than N non-zeros: a row where groups run along the input, else a column; NULL where all conform", range=COUNT, optional=True),
        Column("first_group", "int", "Its first such group, from 0; NULL where all conform", range=COUNT, optional=True),
        Column("first_nonzeros", "int", "Non-zeros in it; NULL where all conform", range=(0, 8), optional=True),
    ),
)  # fmt: skip

BLOCK_ROWS = Table(
    "tensor_blocks",
    "A row per matrix and side of a tile: tiles without any non-zero weight.",
    ("tensor", "side"),
    (
        TENSOR,
        LAYER,
        ROLE,
        Column("side", "int", "Rows and columns of a tile; those at the edge are smaller", unit="weights", range=(1, 1e6)),
        Column("n_tiles", "int", "Tiles", unit="tiles", range=COUNT),
        Column("zero_tile_share", "float", "Tiles that are all zero / tiles", unit="share of the tiles", range=SHARE, evidence="3"),
        Column("block_efficiency", "float", "Zeros in tiles that are all zero / zeros: what skipping whole tiles can use; NULL without zeros", unit="share of the zeros", range=SHARE, optional=True, evidence="O"),
    ),
)  # fmt: skip


def _lines(what: str, other: str, fan: str) -> Table:
    return Table(
        f"tensor_{what}s",
        f"A row per matrix and bin of consecutive {what}s (at most 256 bins; one {what} a bin where there are no more).",
        ("tensor", "start"),
        (
            TENSOR,
            Column("start", "int", f"First {what} of the bin, from 0", range=COUNT),
            Column("stop", "int", f"One past its last {what}", range=COUNT),
            Column("zero_share", "float", "Exact zeros / weights of the bin", unit="share", range=SHARE, evidence="C"),
            Column("n_zero_lines", "int", f"{what.capitalize()}s of the bin that are all zero", unit=f"{what}s", range=COUNT),
            Column("norm", "float", f"Mean of the {what}s' Euclidean norms", range=SIZE),
            Column("largest_norm", "float", f"Largest of the {what}s' norms", range=SIZE),
            Column("strength", "float", f"Mean of the {what}s' sums of |w| over {other} ({fan} strength)", range=SIZE, evidence="C"),
        ),
    )


ROW_ROWS = _lines("row", "its inputs", "fan-in")
COLUMN_ROWS = _lines("column", "the outputs it feeds", "fan-out")

TILE_ROWS = Table(
    "tensor_tiles",
    "The thumbnail of |w|: a row per matrix and row of cells, at most 64 x 64 cells; of a stack of experts their mean square.",
    ("tensor", "start"),
    (
        TENSOR,
        Column("start", "int", "First row of the cells, from 0", range=COUNT),
        Column("stop", "int", "One past their last row", range=COUNT),
        Column("width", "int", "Columns in a cell, the last of a line excepted", range=(1, 1e18)),
        Column("rms", "list[float]", "Root mean square of the weights in each cell, from the first column on", range=SIZE),
    ),
)

DEAD_LINES = Table(
    "dead_lines",
    "Rows and columns that are all zero: the first `listed` of each matrix and kind; the full counts stand in `tensors`.",
    ("tensor", "line_kind", "line"),
    (
        TENSOR,
        Column("line_kind", "str", "row (an output) or column (an input)"),
        Column("line", "int", "Its number from 0; rows of a stack of experts are counted on from matrix to matrix", range=COUNT),
    ),
)

CLAIMS = Table(
    "claims",
    "Whether the model's matrices are what it is said to be: N of M kept along the input.",
    ("pattern",),
    (
        Column("pattern", "str", "N of M kept"),
        Column("source", "str", "Who says so: the setting, the model's name, or most of its own matrices"),
        Column("confirmed", "bool", "Whether every group of every matrix in a block conforms"),
        Column(
            "n_matrices", "int", "Matrices looked at: those inside blocks, or all where there are no blocks", unit="matrices", range=COUNT
        ),
        Column("n_conforming", "int", "Matrices all of whose groups conform", unit="matrices", range=COUNT),
        Column("tensor", "str", "First matrix with a group that does not; NULL where confirmed", optional=True),
        Column("first_line", "int", "Row of that group; NULL where confirmed", range=COUNT, optional=True),
        Column("first_group", "int", "That group, from 0; NULL where confirmed", range=COUNT, optional=True),
        Column("first_nonzeros", "int", "Non-zeros in it; NULL where confirmed", range=(0, 8), optional=True),
        Column("sentence", "str", "The same in words"),
    ),
    summary=True,
)

NORM_SCALES = Table(
    "norm_scales",
    "A row per scale vector of a norm: which channels it would remove. A criterion for batch norms only; elsewhere it describes.",
    ("tensor",),
    (
        TENSOR,
        LAYER,
        Column("owner", "str", "Class of the norm; empty where no module is known"),
        Column("is_criterion", "bool", "Whether it is a batch norm, whose scale multiplies one channel and nothing undoes it"),
        Column("n_channels", "int", "Scales", unit="channels", range=COUNT),
        Column("n_small", "int", "Channels with |scale| at most 0.01", unit="channels", range=COUNT, evidence="C"),
        Column("energy_threshold", "float", "Threshold below which the scales hold 1e-4 of the squares; 1 where no |scale| reaches 1e-3", range=SIZE, evidence="C"),
        Column("n_kept_energy", "int", "Channels above it, at least 1", unit="channels", range=COUNT, evidence="C"),
        Column("gap_ratio", "float", "Largest ratio between neighbours in the order of |scale|, zeros left out: large where two groups stand apart; NULL below two", range=(1, 1e300), optional=True, evidence="O"),
        Column("slimming_threshold", "float", "The `slimming` share quantile of |scale| over all batch norms; NULL where it is none, or none are removed", range=SIZE, optional=True, evidence="C"),
        Column("n_kept_slimming", "int", "Channels above it, at least 1; NULL where it is no batch norm", unit="channels", range=COUNT, optional=True, evidence="C"),
    ),
)  # fmt: skip

STRUCTURE_TABLES = (PATTERN_ROWS, BLOCK_ROWS, ROW_ROWS, COLUMN_ROWS, TILE_ROWS, DEAD_LINES, CLAIMS, NORM_SCALES)
