"""The tables of `weight_spectrum`."""

from __future__ import annotations

from analysis.spec import Column, Table
from analysis.weights.columns import BLOCK, COUNT, LAYER, MATRIX_KIND, ROLE, SHARE, SIZE, TENSOR, optional_share

_MATRIX = Column("matrix", "int", "Which matrix of the tensor, from 0: more than one where experts are stacked", range=(0, 1e9))
_PARAMETERS = "numbers in the two factors [o, rank] and [rank, i] / numbers in the matrix; above 1 they cost more than it does"

SPECTRA = Table(
    "spectra",
    "A row per weight matrix [outputs, inputs]; convolutions flattened to [o, i * kernel], tied ones once, vectors left out.",
    ("tensor", "matrix"),
    (
        TENSOR,
        _MATRIX,
        LAYER,
        MATRIX_KIND,
        ROLE,
        Column("n_out", "int", "Outputs: rows", range=COUNT),
        Column("n_in", "int", "Inputs: columns", range=COUNT),
        Column(
            "method",
            "str",
            "svd: all values; gram: all, from the eigenvalues of the smaller Gram matrix in float64, those below 1e-7 of the largest being "
            "noise; randomised: the largest only, never larger than the true ones; NULL where the matrix is not finite",
            optional=True,
        ),
        Column("exact", "bool", "Whether all singular values were computed"),
        Column("n_computed", "int", "Singular values computed, of min(o, i)", range=COUNT),
        Column("frobenius", "float", "Root of the sum of squares of all entries, exact; NULL where not finite", range=SIZE, optional=True),
        Column("largest", "float", "Largest singular value; NULL where not finite", range=SIZE, optional=True),
        Column(
            "stable_rank",
            "float",
            "frobenius^2 / largest^2: 1 where one direction has all, min(o, i) where all are alike; NULL where zero or not finite",
            range=(1, 1e18),
            optional=True,
        ),
        Column(
            "stable_rank_ratio",
            "float",
            "stable_rank / that of a large random matrix of the same shape, o i / (sqrt o + sqrt i)^2: 1 where the largest direction "
            "stands out no more than chance makes it; NULL where stable_rank is",
            range=(0, 1e18),
            optional=True,
            evidence="O",
        ),
        Column(
            "effective_rank",
            "float",
            "exp of the entropy of singular values / their sum; NULL where zero, not finite or not all values were computed",
            range=(1, 1e18),
            optional=True,
            evidence="K",
        ),
        optional_share(
            "effective_rank_share",
            "effective_rank / min(o, i); NULL where it is",
            "K",
        ),
        Column(
            "numerical_rank",
            "int",
            "Singular values above max(o, i) * precision of the stored type * largest; NULL where not finite, or where all computed ones "
            "are and there are more",
            range=COUNT,
            optional=True,
        ),
        Column(
            "break_even_rank", "int", "int(o i / (o + i)): from here on two factors cost as much as the matrix", range=COUNT, evidence="C"
        ),
        Column(
            "break_even_error",
            "float",
            "||W - W_r|| / ||W|| of the best approximation at break_even_rank; NULL where not finite or too few values were computed",
            range=SHARE,
            optional=True,
            evidence="C",
        ),
        Column(
            "n_outliers",
            "int",
            "Weights with |w| above `sigmas` standard deviations; NULL where not finite",
            range=COUNT,
            optional=True,
            evidence="O",
        ),
        optional_share(
            "outlier_share",
            "n_outliers / weights; NULL where not finite",
        ),
        optional_share(
            "outlier_rows",
            "Share of the outliers in the 1 % of rows (at least one) with most of them; NULL where there are none",
        ),
        optional_share(
            "outlier_columns",
            "Share of the outliers in the 1 % of columns (at least one) with most of them; NULL where there are none",
        ),
        Column("missing", "str", "Why numbers are missing, as a sentence; NULL where none are", optional=True),
    ),
    order=("layer", "tensor", "matrix"),
)

CURVES = Table(
    "spectrum_curves",
    "Singular values over rank, on up to 48 ranks per matrix, evenly spaced on a log axis.",
    ("tensor", "matrix", "rank"),
    (
        TENSOR,
        _MATRIX,
        LAYER,
        ROLE,
        Column("rank", "int", "Number of the singular value, from 1, the largest", range=(1, 1e18)),
        Column("rank_share", "float", "rank / min(o, i)", unit="share", range=SHARE),
        Column("value", "float", "Singular value", range=SIZE),
        Column("relative_value", "float", "Singular value / the largest; 0 for the zero matrix", range=SHARE),
        Column(
            "energy", "float", "Share of the sum of squares in the first `rank` directions; a lower bound where randomised", range=SHARE
        ),
        Column("error", "float", "||W - W_r|| / ||W|| of the best approximation of that rank", range=SHARE, evidence="C"),
        Column("parameter_ratio", "float", f"rank (o + i) / (o i): {_PARAMETERS}", range=(0, 1e18), evidence="C"),
    ),
)

RANKS = Table(
    "spectrum_ranks",
    "The rank that a low-rank approximation needs for a relative error.",
    ("tensor", "matrix", "max_error"),
    (
        TENSOR,
        _MATRIX,
        LAYER,
        ROLE,
        Column("max_error", "float", "||W - W_r|| / ||W|| that may not be exceeded", range=SHARE),
        Column("rank", "int", "Smallest rank that does not; NULL where too few singular values were computed", range=COUNT, optional=True),
        Column("parameter_ratio", "float", f"{_PARAMETERS}; NULL where rank is", range=(0, 1e18), optional=True, evidence="C"),
    ),
)

FACTORISATIONS = Table(
    "factorisations",
    "What is lost when a matrix is made of cheaper parts that hold the same share of its parameters.",
    ("tensor", "matrix", "method"),
    (
        TENSOR,
        _MATRIX,
        LAYER,
        ROLE,
        Column(
            "method",
            "str",
            "low_rank: two factors (truncated SVD); sparse: the largest entries; sparse_low_rank: half of the parameters each, 20 rounds; "
            "dense_sparse: blocks of 16 rows as D [16, 32] S, S with a fixed number of entries per column (K-SVD)",
        ),
        Column("parameter_share", "float", "Numbers allowed / numbers in the matrix", unit="share", range=SHARE),
        Column("rank", "int", "Rank, or columns of D; NULL for sparse", range=COUNT, optional=True),
        Column("n_kept", "int", "Entries of the sparse part, of the rows measured; NULL for low_rank", range=COUNT, optional=True),
        Column("n_parameters", "int", "Numbers in all parts, of the rows measured", range=COUNT),
        Column("index_bits", "int", "Bits that say where the sparse entries are (beside the parameters)", unit="bits", range=COUNT),
        Column("n_rows", "int", "Rows measured: fewer than all for dense_sparse, blocks spread evenly", range=COUNT),
        Column(
            "error",
            "float",
            "||W - W'|| / ||W|| over the rows measured; NULL where too few values were computed",
            range=SHARE,
            optional=True,
            evidence="O",
        ),
    ),
)

LAYER_SPECTRA = Table(
    "layer_spectra",
    "A row per block and kind of weight matrix: means over its matrices, each counting the same.",
    ("layer", "kind"),
    (
        BLOCK,
        MATRIX_KIND,
        Column("n_matrices", "int", "Matrices of this kind in the block", range=COUNT),
        Column(
            "stable_rank_ratio", "float", "Mean stable_rank_ratio; NULL where none has one", range=(0, 1e18), optional=True, evidence="O"
        ),
        Column(
            "effective_rank_share", "float", "Mean effective_rank_share; NULL where none has one", range=SHARE, optional=True, evidence="K"
        ),
        Column(
            "outlier_share",
            "float",
            "Outliers / weights over all of them; NULL where none is finite",
            range=SHARE,
            optional=True,
            evidence="O",
        ),
    ),
    summary=True,
)

TABLES = (SPECTRA, CURVES, RANKS, FACTORISATIONS, LAYER_SPECTRA)
