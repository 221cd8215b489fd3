"""The tables of `layer_ratios`."""

from __future__ import annotations

from analysis.spec import Column, Table
from analysis.weights.columns import COUNT, LAYER, MATRIX_KIND, ROLE, SHARE, TENSOR, optional_share

_METHOD = (
    "uniform; uniform+ (first convolution dense, last matrix at least 20 %); er and erk (Erdos-Renyi, by sizes of axes); global (one "
    "threshold on |w|); global_floor (the same, with a least number of weights per tensor); lamp (one threshold on LAMP scores)"
)

RATIO_TENSORS = Table(
    "ratio_tensors",
    "A row per weight tensor that shares out: matrices, stacks of them and convolutions; tied ones once, vectors left out.",
    ("tensor",),
    (
        TENSOR,
        LAYER,
        MATRIX_KIND,
        ROLE,
        Column(
            "shape",
            "list[int]",
            "Sizes of the axes of one matrix: outputs, inputs, kernel; of a stack, of each of its matrices",
            range=COUNT,
        ),
        Column("n_matrices", "int", "Matrices in the tensor: more than one where experts are stacked", range=COUNT),
        Column("n_weights", "int", "Number of weights; what is not finite counts as the largest", unit="weights", range=COUNT),
        Column("n_zero", "int", "Exact zeros", unit="weights", range=COUNT),
        Column(
            "own_density", "float", "Weights that are not zero / weights: what the checkpoint has", unit="share", range=SHARE, evidence="C"
        ),
        Column("exact", "bool", "Whether the order of its magnitudes is known exactly: so for every 16-bit type; else to 1 part in 2,048"),
    ),
)

RATIO_ROWS = Table(
    "layer_ratios",
    "A row per weight tensor, method and overall density: the density the method would give this tensor.",
    ("density", "method", "tensor"),
    (
        Column("density", "float", "Overall density asked for: kept / all weights of `ratio_tensors`", unit="share", range=SHARE),
        Column("method", "str", _METHOD),
        TENSOR,
        LAYER,
        ROLE,
        Column("n_weights", "int", "Number of weights in the tensor", unit="weights", range=COUNT),
        Column("tensor_density", "float", "Kept / weights of this tensor under the method", unit="share", range=SHARE, evidence="C"),
        Column(
            "own_density", "float", "Weights that are not zero / weights: what the checkpoint has", unit="share", range=SHARE, evidence="C"
        ),
        Column("collapsed", "bool", "Whether less than one weight is kept: nothing gets through this tensor any more", evidence="C"),
        Column(
            "repaired", "bool", "Whether global would have kept fewer than the floor, and global_floor keeps it; false for other methods"
        ),
    ),
    order=("density", "method", "layer", "tensor"),
)

RATIO_TOTALS = Table(
    "ratio_totals",
    "A row per method and overall density: what it comes to over all tensors.",
    ("density", "method"),
    (
        Column("density", "float", "Overall density asked for", unit="share", range=SHARE),
        Column("method", "str", _METHOD),
        Column(
            "is_shown", "bool", "Whether the figures per layer show this density: the checkpoint's own where it is pruned, else the setting"
        ),
        Column("n_tensors", "int", "Tensors that share out", unit="tensors", range=COUNT),
        Column("n_weights", "int", "Weights in them, tied ones once", unit="weights", range=COUNT),
        Column(
            "reached",
            "float",
            "Kept / all weights under the method; below `density` where more weights are zero already; NULL where it is infeasible",
            unit="share",
            range=SHARE,
            optional=True,
        ),
        optional_share(
            "least_density",
            "Least density of any tensor; NULL where infeasible",
            "C",
        ),
        Column(
            "n_collapsed", "int", "Tensors that keep less than one weight; NULL where infeasible", range=COUNT, optional=True, evidence="C"
        ),
        Column("n_repaired", "int", "Tensors the floor lifted; NULL where infeasible", range=COUNT, optional=True, evidence="C"),
        Column(
            "least_kept",
            "int",
            "The floor of global_floor; NULL for other methods",
            unit="weights",
            range=COUNT,
            optional=True,
            evidence="C",
        ),
        optional_share(
            "distance",
            "Mean |own density - density under the method| over tensors, weighted by size; NULL where infeasible",
            "C",
        ),
        Column("exact", "bool", "Whether counts are exact: false for lamp on wide types, where magnitudes are known to 1 part in 2,048"),
        Column("infeasible", "str", "Why the method has no densities here, as a sentence; NULL where it has", optional=True),
    ),
    summary=True,
)

TABLES = (RATIO_TENSORS, RATIO_ROWS, RATIO_TOTALS)
