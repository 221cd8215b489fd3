"""The tables of `weight_sparsity`: every column with its type, unit, meaning and range (those about structure: `structure_tables`)."""

from __future__ import annotations

from analysis.spec import Column, Table
from analysis.weights.columns import BLOCK, COUNT, KIND, LAYER, ROLE, SHAPE, SHARE, SIZE, STRUCTURE, STRUCTURE_SHARE, TENSOR
from analysis.weights.structure_tables import STRUCTURE_TABLES

TENSORS = Table(
    "tensors",
    "A row per weight tensor; tied tensors once.",
    ("tensor",),
    (
        TENSOR,
        LAYER,
        KIND,
        ROLE,
        Column("tied", "list[str]", "Further names of the same tensor"),
        SHAPE,
        Column("dtype", "str", "Type it is stored in; its values are as read, which for a quantised file means dequantised"),
        Column("owner", "str", "Class of the module it belongs to; empty where no module is known"),
        Column(
            "input_axis",
            "int",
            "Stored axis the input runs along; NULL where it is not known (then rows are the first axis as stored) and for vectors",
            range=(0, 10),
            optional=True,
        ),
        Column("n_matrices", "int", "Matrices it holds: 1, or the number of experts of a stack; 0 for vectors", range=COUNT),
        Column("n_rows", "int", "Rows (outputs) of all its matrices; 0 for vectors", unit="rows", range=COUNT),
        Column("n_columns", "int", "Columns (inputs) of a matrix; 0 for vectors", unit="columns", range=COUNT),
        Column("n_weights", "int", "Number of weights", unit="weights", range=COUNT),
        Column("n_zero", "int", "Exact zeros", unit="weights", range=COUNT),
        Column(
            "n_near_zero",
            "int",
            "Weights with |w| at most `near` times the root mean square, exact zeros among them; the bar of float32 tensors is rounded down to one of 2,048 steps per octave",
            unit="weights",
            range=COUNT,
        ),
        Column("n_nonfinite", "int", "NaN or infinite weights, left out of every other number", unit="weights", range=COUNT),
        Column("zero_share", "float", "Exact zeros / weights", unit="share", range=SHARE, evidence="C"),
        Column("near_zero_share", "float", "Near zeros / weights", unit="share", range=SHARE, evidence="O"),
        Column("l1", "float", "Sum of |w|", range=SIZE),
        Column("l2", "float", "Root of the sum of squares", range=SIZE),
        Column("rms", "float", "Root mean square", range=SIZE),
        Column("max_abs", "float", "Largest |w|", range=SIZE),
        Column("lowest", "float", "Smallest weight", range=(-1e300, 1e300)),
        Column("highest", "float", "Largest weight", range=(-1e300, 1e300)),
        Column("mean", "float", "Mean", range=(-1e300, 1e300)),
        Column("std", "float", "Standard deviation over all weights", range=SIZE),
        Column("constant", "bool", "Whether all finite weights are one number"),
        Column("n_zero_rows", "int", "Rows that are all zero; 0 for vectors", unit="rows", range=COUNT),
        Column("n_zero_columns", "int", "Columns that are all zero; 0 for vectors", unit="columns", range=COUNT),
        STRUCTURE,
        STRUCTURE_SHARE,
        Column(
            "pq_index",
            "float",
            "PQ Index with p = 0.5, q = 1: 0 all equal, near 1 few carry all; NULL for all-zero tensors",
            range=SHARE,
            optional=True,
            evidence="C",
        ),
        Column(
            "hoyer",
            "float",
            "Hoyer sparsity; compare at equal size only; NULL for all-zero tensors and single weights",
            range=SHARE,
            optional=True,
            evidence="K",
        ),
        Column(
            "gini",
            "float",
            "Gini index of |w|: 0 all equal, near 1 few carry all; NULL for all-zero tensors",
            range=SHARE,
            optional=True,
            evidence="K",
        ),
        Column(
            "gini_exact",
            "bool",
            "Whether the Gini index is of the exact magnitudes; else each counts as the middle of its step of 2,048 per octave",
        ),
        Column(
            "kurtosis",
            "float",
            "Excess kurtosis: 0 normal, 3 Laplace; NULL where there is no spread",
            range=(-2, 1e18),
            optional=True,
            evidence="K",
        ),
    ),
)

HISTOGRAMS = Table(
    "tensor_histograms",
    "Histogram of |w| per tensor over fixed edges (eight bins per octave): the bins that are not empty.",
    ("tensor", "low"),
    (
        TENSOR,
        Column("low", "float", "Lower edge; 0 for the bin of magnitudes below 2^-20", unit="|w|", range=SIZE),
        Column("high", "float", "Upper edge; NULL for the overflow bin from 2^12 on", unit="|w|", range=SIZE, optional=True),
        Column("n_weights", "int", "Weights with low <= |w| < high", unit="weights", range=COUNT),
    ),
)

TOTALS = Table(
    "totals",
    "A row per scope: the denominators every share is stated against.",
    ("scope",),
    (
        Column("scope", "str", "all weights; block matrices (two or more axes, inside blocks); everything else"),
        Column("n_tensors", "int", "Tensors in the scope", unit="tensors", range=COUNT),
        Column("n_weights", "int", "Weights in the scope, tied ones once", unit="weights", range=COUNT),
        Column("zero_share", "float", "Exact zeros / weights", unit="share", range=SHARE, evidence="C"),
        Column("near_zero_share", "float", "Near zeros / weights", unit="share", range=SHARE, evidence="O"),
    ),
    summary=True,
)

LAYER_WEIGHTS = Table(
    "layer_weights",
    "A row per block and kind of weight matrix; only tensors with two or more axes inside blocks, tied ones once.",
    ("layer", "kind"),
    (
        BLOCK,
        Column("kind", "str", "attention, ffn, conv, linear or other, by owner and name"),
        Column("n_tensors", "int", "Matrices of this kind in the block", unit="tensors", range=COUNT),
        Column("n_weights", "int", "Weights in them", unit="weights", range=COUNT),
        Column("zero_share", "float", "Exact zeros / weights", unit="share", range=SHARE, evidence="C"),
        Column("near_zero_share", "float", "Near zeros / weights", unit="share", range=SHARE, evidence="O"),
        Column(
            "pq_index",
            "float",
            "Mean PQ Index (p = 0.5, q = 1) of the matrices that have one, each counting the same; NULL where all are zero",
            range=SHARE,
            optional=True,
            evidence="C",
        ),
    ),
    summary=True,
)

TABLES = (TENSORS, HISTOGRAMS, *STRUCTURE_TABLES, TOTALS, LAYER_WEIGHTS)
