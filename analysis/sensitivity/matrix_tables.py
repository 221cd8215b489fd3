"""Tables of `matrix_sensitivity`."""

from __future__ import annotations

from analysis.sensitivity.columns import (
    ANY,
    COUNT,
    DENSE_SUM,
    DOCUMENT,
    ENDLESS,
    LAYER,
    LOSS_SUM,
    N_DOCUMENTS,
    N_MEASURED,
    N_SCORED,
    N_WEIGHTS,
    OF_MATRIX,
    ROLE,
    SPLIT,
    TASK,
)  # fmt: skip
from analysis.sensitivity.tables import SCOPE
from analysis.spec import Column, Table

_UNMEASURED = "NULL where it was not measured, only predicted"
_WHERE = (
    Column("kind", "str", "matrix, head (its rows of query, key, value and columns of the output matrix), ffn group (of neurons), sublayer (all matrices of an attention or FFN) or block"),
    Column("tensor", "str", "Parameter, or the name of the head, group, sublayer or block"),
    LAYER,
    ROLE,
)  # fmt: skip
_LEVEL = Column(
    "level",
    "float",
    "Share of its weights to be removed, all others of the model left as they are",
    unit=OF_MATRIX,
    range=(0, 1),
)

POINTS = Table(
    "matrix_points",
    "What it costs to prune one matrix (head, group, sublayer, block) alone, at every measured level.",
    ("kind", "tensor", "level"),
    (
        *_WHERE,
        _LEVEL,
        N_WEIGHTS,
        Column("achieved", "float", "Measured share of zeros, zeros of the dense model included", unit=OF_MATRIX, range=(0, 1)),
        Column("already_zero", "float", "Share that is zero in the dense model: existing sparsity", unit=OF_MATRIX, range=(0, 1)),
        Column("stage", "str", "grid (the fixed levels) or refined (halving the bracket around the tolerance)"),
        Column("method", "str", "How weights are chosen"),
        TASK,
        SPLIT,
        Column("unit", "str", "Unit of value and delta"),
        Column("value", "float", f"Mean loss per position; {ENDLESS}", range=ANY, optional=True),
        Column("delta", "float", f"Loss minus dense loss on the same positions; {ENDLESS}", range=ANY, optional=True, evidence="O"),
        Column("low", "float", f"Lower end of its 95 % interval over documents, the same draws for all; NULL for one document; {ENDLESS}", range=ANY, optional=True),
        Column("high", "float", f"Upper end of it; NULL for one document; {ENDLESS}", range=ANY, optional=True),
        Column("stderr", "float", f"Standard error of delta over documents, paired; NULL for one document; {ENDLESS}", range=(0, 1e308), optional=True),
        Column("resolved", "bool", "Whether the interval leaves out 0: the matrix matters at this level, as far as this much data can tell"),
        N_MEASURED,
        N_DOCUMENTS,
    ),
)  # fmt: skip

LOSSES = Table(
    "matrix_losses",
    "Loss of every document at every measured level: what intervals, ranks and allocations are made of.",
    ("kind", "tensor", "level", "document"),
    (
        _WHERE[0],
        _WHERE[1],
        _LEVEL,
        DOCUMENT,
        N_SCORED,
        LOSS_SUM,
        DENSE_SUM,
    ),
)

RANKING = Table(
    "matrix_ranking",
    "Which matrices (heads, groups, sublayers, blocks) the model can least do without.",
    ("kind", "tensor"),
    (
        *_WHERE,
        N_WEIGHTS,
        Column("area", "float", f"Area under the loss increase over the fixed levels, from 0, divided by the last of them: a mean increase; {_UNMEASURED}, and where the loss is infinite", range=ANY, optional=True, evidence="O"),
        Column("low", "float", "Lower end of its 95 % interval over documents; NULL for one document, and as area", range=ANY, optional=True),
        Column("high", "float", "Upper end of it; NULL for one document, and as area", range=ANY, optional=True),
        Column("rank", "int", f"By area among its kind, 1 being the most sensitive; {_UNMEASURED}", range=(1, 1e9), optional=True),
        Column("rank_low", "int", "Best rank in 95 % of the draws of documents; NULL for one document, and as rank", range=(1, 1e9), optional=True),
        Column("rank_high", "int", "Worst rank in them; NULL for one document, and as rank", range=(1, 1e9), optional=True),
        Column("eps", "float", "Tolerance of the drop point", range=(0, 1e308)),
        Column("answer", "str", f"reached, not reached, below first level, or not resolvable; {_UNMEASURED}", optional=True),
        Column("drop", "float", "s*(eps) of this matrix alone; NULL unless reached", unit=OF_MATRIX, range=(0, 1), optional=True, evidence="O"),
        Column("drop_low", "float", "Lower end of its 95 % interval; NULL unless reached, and for one document", unit=OF_MATRIX, range=(0, 1), optional=True),
        Column("drop_high", "float", "Upper end of it; NULL unless reached, for one document, and where it lies beyond the last level", unit=OF_MATRIX, range=(0, 1), optional=True),
        Column("words", "str", "The drop point as a sentence's part, or that it was not measured"),
        Column("last_level", "float", f"Highest level measured; {_UNMEASURED}", unit=OF_MATRIX, range=(0, 1), optional=True),
        Column("lowers", "float", "Increase of the loss, below 0, at the measured level where it falls most: an ablation that helps, its 95 % interval below 0; NULL where there is none, and for one document", range=ANY, optional=True, evidence="O"),
        Column("lowers_at", "float", "That level; NULL as lowers", unit=OF_MATRIX, range=(0, 1), optional=True),
        Column("note", "str", "What limits the row; NULL where nothing does", optional=True),
    ),
    summary=True,
)  # fmt: skip

PROXIES = Table(
    "matrix_proxies",
    "What cheap predictions say, beside the measured increase of the loss.",
    ("proxy", "kind", "tensor", "level"),
    (
        Column("proxy", "str", "output error (relative change of the matrix' outputs), taylor (first order), or fisher (half of the diagonal second order)"),
        *_WHERE,
        _LEVEL,
        Column("value", "float", "The prediction, on the calibration split", range=ANY, evidence="O"),
        Column("unit", "str", "Of the prediction"),
        Column("delta", "float", f"The measured increase of the loss; {_UNMEASURED}, and where the loss is infinite", range=ANY, optional=True),
    ),
)  # fmt: skip

AGREEMENT = Table(
    "proxy_agreement",
    "Whether cheap predictions rank matrices as the measurement does.",
    ("proxy", "kind", "level"),
    (
        Column("proxy", "str", "output error, taylor or fisher"),
        Column("kind", "str", "matrix, head or ffn group"),
        _LEVEL,
        Column("spearman", "float", "Rank correlation of prediction and measured increase; NULL below five matrices, and where one of the two is the same for all", range=(-1, 1), optional=True),
        Column("low", "float", "Lower end of its 95 % interval over documents; NULL for one document, and as spearman", range=(-1, 1), optional=True),
        Column("high", "float", "Upper end of it; NULL for one document, and as spearman", range=(-1, 1), optional=True),
        Column("n", "int", "Matrices compared", unit="matrices", range=COUNT),
        Column("words", "str", "Whether the proxy may be trusted on this model, in words"),
    ),
    summary=True,
)  # fmt: skip

TABLES = (POINTS, RANKING, PROXIES, AGREEMENT, LOSSES, SCOPE)
