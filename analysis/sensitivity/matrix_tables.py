"""Tables of `matrix_sensitivity`."""

from __future__ import annotations

from analysis.sensitivity.tables import SCOPE
from analysis.spec import Column, Table

_N = (0, 1e18)
_ANY = (-1e308, 1e308)
_ENDLESS = "NULL where the loss of a position is infinite or no number"
_UNMEASURED = "NULL where it was not measured, only predicted"
_WHERE = (
    Column("kind", "str", "matrix, head (its rows of query, key, value and columns of the output matrix) or ffn group (of neurons)"),
    Column("tensor", "str", "Parameter, or the name of the head or group"),
    Column("layer", "int", "Block, from 0; NULL outside of the blocks", range=(0, 1e6), optional=True),
    Column("role", "str", "Path inside its block: the same for alike matrices of different layers"),
)
_LEVEL = Column(
    "level",
    "float",
    "Share of its weights to be removed, all others of the model left as they are",
    unit="share of the matrix",
    range=(0, 1),
)

POINTS = Table(
    "matrix_points",
    "What it costs to prune one matrix (head, group) alone, at every measured level.",
    ("kind", "tensor", "level"),
    (
        *_WHERE,
        _LEVEL,
        Column("n_weights", "int", "Weights in it", unit="weights", range=_N),
        Column("achieved", "float", "Measured share of zeros, zeros of the dense model included", unit="share of the matrix", range=(0, 1)),
        Column("already_zero", "float", "Share that is zero in the dense model: existing sparsity", unit="share of the matrix", range=(0, 1)),
        Column("stage", "str", "grid (the fixed levels) or refined (halving the bracket around the tolerance)"),
        Column("method", "str", "How weights are chosen"),
        Column("task", "str", "causal-lm, masked-lm, seq2seq, classification, divergence, or own"),
        Column("split", "str", "Which documents were measured"),
        Column("unit", "str", "Unit of value and delta"),
        Column("value", "float", f"Mean loss per position; {_ENDLESS}", range=_ANY, optional=True),
        Column("delta", "float", f"Loss minus dense loss on the same positions; {_ENDLESS}", range=_ANY, optional=True, evidence="O"),
        Column("low", "float", f"Lower end of its 95 % interval over documents, the same draws for all; NULL for one document; {_ENDLESS}", range=_ANY, optional=True),
        Column("high", "float", f"Upper end of it; NULL for one document; {_ENDLESS}", range=_ANY, optional=True),
        Column("stderr", "float", f"Standard error of delta over documents, paired; NULL for one document; {_ENDLESS}", range=(0, 1e308), optional=True),
        Column("resolved", "bool", "Whether the interval leaves out 0: the matrix matters at this level, as far as this much data can tell"),
        Column("n", "int", "Positions measured", unit="positions", range=_N),
        Column("n_documents", "int", "Documents measured", unit="documents", range=_N),
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
        Column("document", "int", "Document, from 0", range=_N),
        Column("n", "int", "Positions scored", unit="positions", range=_N),
        Column("loss_sum", "float", f"Sum of the loss over them; {_ENDLESS}", range=_ANY, optional=True),
        Column("dense_sum", "float", "The same of the dense model", range=_ANY),
    ),
)

RANKING = Table(
    "matrix_ranking",
    "Which matrices (heads, groups) the model can least do without.",
    ("kind", "tensor"),
    (
        *_WHERE,
        Column("n_weights", "int", "Weights in it", unit="weights", range=_N),
        Column("area", "float", f"Area under the loss increase over the fixed levels, from 0, divided by the last of them: a mean increase; {_UNMEASURED}, and where the loss is infinite", range=_ANY, optional=True, evidence="O"),
        Column("low", "float", "Lower end of its 95 % interval over documents; NULL for one document, and as area", range=_ANY, optional=True),
        Column("high", "float", "Upper end of it; NULL for one document, and as area", range=_ANY, optional=True),
        Column("rank", "int", f"By area among its kind, 1 being the most sensitive; {_UNMEASURED}", range=(1, 1e9), optional=True),
        Column("rank_low", "int", "Best rank in 95 % of the draws of documents; NULL for one document, and as rank", range=(1, 1e9), optional=True),
        Column("rank_high", "int", "Worst rank in them; NULL for one document, and as rank", range=(1, 1e9), optional=True),
        Column("eps", "float", "Tolerance of the drop point", range=(0, 1e308)),
        Column("answer", "str", f"reached, not reached, below first level, or not resolvable; {_UNMEASURED}", optional=True),
        Column("drop", "float", "s*(eps) of this matrix alone; NULL unless reached", unit="share of the matrix", range=(0, 1), optional=True, evidence="O"),
        Column("drop_low", "float", "Lower end of its 95 % interval; NULL unless reached, and for one document", unit="share of the matrix", range=(0, 1), optional=True),
        Column("drop_high", "float", "Upper end of it; NULL unless reached, for one document, and where it lies beyond the last level", unit="share of the matrix", range=(0, 1), optional=True),
        Column("words", "str", "The drop point as a sentence's part, or that it was not measured"),
        Column("last_level", "float", f"Highest level measured; {_UNMEASURED}", unit="share of the matrix", range=(0, 1), optional=True),
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
        Column("value", "float", "The prediction, on the calibration split", range=_ANY, evidence="O"),
        Column("unit", "str", "Of the prediction"),
        Column("delta", "float", f"The measured increase of the loss; {_UNMEASURED}, and where the loss is infinite", range=_ANY, optional=True),
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
        Column("n", "int", "Matrices compared", unit="matrices", range=_N),
        Column("words", "str", "Whether the proxy may be trusted on this model, in words"),
    ),
    summary=True,
)  # fmt: skip

TABLES = (POINTS, RANKING, PROXIES, AGREEMENT, LOSSES, SCOPE)
