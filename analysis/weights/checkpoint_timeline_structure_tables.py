"""The tables of `checkpoint_timeline` about structure: the measures of `weight_sparsity` and `weight_spectrum` over steps."""

from __future__ import annotations

from analysis.spec import Column, Table
from analysis.weights.columns import COUNT, KIND, LAYER, ROLE, STEP, STRUCTURE, STRUCTURE_SHARE, TENSOR

_PLACE = (
    STEP,
    TENSOR,
    LAYER,
    KIND,
    ROLE,
)
_MEASURE = (
    Column(
        "measure",
        "str",
        "conforming_share and retained_energy (N of M kept), zero_tile_share and block_efficiency (tiles), zero_row_share, "
        "zero_column_share, gini, hoyer, kurtosis, mean_abs; of matrices up to `rank_side` also stable_rank, effective_rank, "
        "numerical_rank, break_even_error and outlier_share: as `weight_sparsity` and `weight_spectrum` define them",
    ),
    Column("detail", "str", "Which: pattern and direction of the groups, side of the tiles, bar of the outliers; else whole"),
)
_VALUE = (-1e300, 1e300)

MEASURES = Table(
    "timeline_measures",
    "A row per checkpoint, weight tensor and measure; no row where the measure is not defined.",
    ("step", "tensor", "measure", "detail"),
    (*_PLACE, *_MEASURE, Column("value", "float", "The measure; shares are 0 to 1", range=_VALUE, evidence="C")),
)

SCOPE_MEASURES = Table(
    "timeline_scope_measures",
    "A row per checkpoint, scope and measure.",
    ("step", "scope", "measure", "detail"),
    (
        STEP,
        Column("scope", "str", "all weights; matrices: those inside blocks, or all where there are no blocks"),
        *_MEASURE,
        Column("n_tensors", "int", "Tensors that have the measure", unit="tensors", range=COUNT),
        Column(
            "value",
            "float",
            "Shares and mean_abs over all groups, tiles, lines, squares, zeros or weights of the scope together; the other measures "
            "averaged over its tensors, each counting the same",
            range=_VALUE,
            evidence="O",
        ),
    ),
)

STRUCTURES = Table(
    "timeline_structures",
    "A row per checkpoint and weight tensor: what it is pruned to.",
    ("step", "tensor"),
    (
        *_PLACE,
        STRUCTURE,
        STRUCTURE_SHARE,
    ),
)

TURNS = Table(
    "timeline_turns",
    "A row per change of a matrix' structure from one checkpoint to the next: those inside blocks, or all where there are no blocks.",
    ("tensor", "step"),
    (
        TENSOR,
        Column("step", "int", "First checkpoint with the new structure", unit="steps", range=COUNT),
        Column("before_step", "int", "Last checkpoint before it that has the matrix", unit="steps", range=COUNT),
        Column("before", "str", "What the matrix was there", evidence="O"),
        STRUCTURE,
    ),
)

STRUCTURE_TABLES = (MEASURES, SCOPE_MEASURES, STRUCTURES, TURNS)
