"""Tables of `essential_sparsity`."""

from __future__ import annotations

from analysis.sensitivity.columns import (
    ANY,
    COUNT,
    DENSE_SUM,
    DOCUMENT,
    ENDLESS,
    LAYER,
    LEVEL,
    LOSS_SUM,
    N_DOCUMENTS,
    N_MEASURED,
    N_SCORED,
    N_WEIGHTS,
    OF_SCOPE,
    ROLE,
    SPLIT,
    TASK,
    TENSOR,
)  # fmt: skip
from analysis.spec import Column, Table

_INTERVAL = (
    "end of its 95 % interval over documents (bootstrap, the same draws for all levels and methods); NULL for one document, and as delta"
)
_DRAWS = "NULL for fewer than two draws, and unless all of them reached it"
_COST = "at the operating point in the run's facts"

FIRST, SECOND_SET = "first", "second"
KEY = ("method", "structure", "scope", "seed", "data")
"""What tells curves apart."""
CURVE = (
    Column(
        "method",
        "str",
        "How weights are chosen, with its options, its shares per matrix where it has any, and (code) where it counts as published code",
    ),
    Column("structure", "str", "How the zeros lie: unstructured, 2:4 (kept of), block 4x4, rows, columns"),
    Column("scope", "str", "Which weights compete with each other: global, per_matrix, per_row, or group (of M)"),
    Column("seed", "int", "Seed of the method's random choices, and of its calibration sample where there are several draws", range=COUNT),
    Column("data", "str", "Which data it was measured on: first, or second (second_data; its name is among the run's facts)"),
)

POINTS = Table(
    "curve_points",
    "Every measured level of every curve, once for each metric.",
    (*KEY, "metric", "level"),
    (
        *CURVE,
        LEVEL,
        Column("kind", "str", "curve; patterns: levels with nothing between them; or point: one pattern, exempt from drop points"),
        Column("achieved", "float", "Measured share of zeros in the scope, zeros of the dense model included", unit=OF_SCOPE, range=(0, 1)),
        Column("already_zero", "float", "Share of the scope that is zero in the dense model: existing sparsity", unit=OF_SCOPE, range=(0, 1)),
        Column("native_value", "float", "The method's own knob at this level; NULL where it has none, or one for each matrix", optional=True),
        Column("native_unit", "str", "Unit of the native value; NULL as that", optional=True),
        TASK,
        SPLIT,
        Column("metric", "str", "loss, accuracy (first choice right, or that of the dense model), kl (to the dense model), or the user's own"),
        Column("unit", "str", "Unit of value and delta"),
        Column("value", "float", f"Mean per position; {ENDLESS}", range=ANY, optional=True, evidence="O"),
        Column("delta", "float", f"How much worse than dense: value minus dense value, of accuracy dense minus value; {ENDLESS}", range=ANY, optional=True, evidence="O"),
        Column("low", "float", f"Lower {_INTERVAL}", range=ANY, optional=True),
        Column("high", "float", f"Upper {_INTERVAL}", range=ANY, optional=True),
        Column("stderr", "float", "Standard error of delta over documents, paired; NULL for one document, and as delta", range=(0, 1e308), optional=True),
        Column("perplexity", "float", "exp(value) of a language model's loss; NULL for other metrics and tasks, beyond 1e300, and as value", range=(0, 1e300), optional=True),
        N_MEASURED,
        N_DOCUMENTS,
        Column("cost_params", "int", "Parameters of the whole model that are not zero", unit="parameters", range=COUNT),
        Column("cost_flops", "float", f"F: FLOPs of one pass, zeros skipped, {_COST}", unit="FLOP", range=(0, 1e30)),
        Column("cost_bytes", "float", f"D: bytes moved per decoded token at B = 1, {_COST}; NULL where the model keeps no keys and values that could be seen", unit="bytes", range=(0, 1e30), optional=True),
        Column("cost_bytes_32", "float", f"D at B = 32, {_COST}; NULL where the model keeps no keys and values that could be seen", unit="bytes", range=(0, 1e30), optional=True),
        Column("cost_resident", "float", f"M: bytes held, {_COST}", unit="bytes", range=(0, 1e30)),
        Column("note", "str", "What limits this point; NULL where nothing does", optional=True),
    ),
)  # fmt: skip

LOSSES = Table(
    "point_losses",
    "Loss of every document at every level: what intervals and differences between methods are made of.",
    (*KEY, "level", "document"),
    (
        *CURVE,
        LEVEL,
        DOCUMENT,
        N_SCORED,
        LOSS_SUM,
        DENSE_SUM,
        Column(
            "n_correct", "int", "Positions where the first choice was the answer, or that of the dense model", unit="positions", range=COUNT
        ),
        Column("dense_correct", "int", "The same of the dense model", unit="positions", range=COUNT),
    ),
)

DROPS = Table(
    "drop_points",
    "Where each curve leaves its tolerance: s*(eps), without fine-tuning.",
    (*KEY, "metric", "eps"),
    (
        *CURVE,
        Column("metric", "str", "loss or accuracy"),
        Column("eps", "float", "Tolerance: the increase of the loss, or the share of accuracy lost, that is put up with", range=(0, 1e308)),
        Column("unit", "str", "Unit of eps"),
        Column("answer", "str", "reached, not reached (within the levels measured), below first level, or not resolvable (standard error above eps / 3)"),
        Column("level", "float", "s*(eps): largest share up to which the running maximum of the smoothed increase stays within eps; of patterns the last one within, 0 for none; NULL unless reached", unit=OF_SCOPE, range=(0, 1), optional=True, evidence="O"),
        Column("low", "float", "Lower end of its 95 % interval, by inverting the band; patterns above it, up to the upper end, are undecided; NULL unless reached", unit=OF_SCOPE, range=(0, 1), optional=True, evidence="O"),
        Column("high", "float", "Upper end of its 95 % interval; NULL unless reached, and where the band stays within eps up to the last level", unit=OF_SCOPE, range=(0, 1), optional=True, evidence="O"),
        Column("achieved", "float", "Share of the scope that was zero there, zeros of the dense model included, read off between the measured levels: s* itself is of the share asked for; NULL unless reached", unit=OF_SCOPE, range=(0, 1), optional=True),
        Column("raw", "float", "The same of the curve as measured, not smoothed; NULL unless crossed", unit=OF_SCOPE, range=(0, 1), optional=True),
        Column("below", "float", "Measured level just below the drop point, from which it is interpolated; of patterns the drop point; NULL unless reached", unit=OF_SCOPE, range=(0, 1), optional=True),
        Column("above", "float", "Measured level just above it; NULL unless reached", unit=OF_SCOPE, range=(0, 1), optional=True),
        Column("last_level", "float", "Highest level measured: where not reached, s* lies beyond it", unit=OF_SCOPE, range=(0, 1)),
        Column("stderr", "float", "Standard error of the increase at the crossing; NULL for one document", range=(0, 1e308), optional=True),
        N_DOCUMENTS,
        Column("is_headline", "bool", "Whether this is the tolerance the model's card shows: the middle one, or the next above it that noise does not hide on any curve"),
        Column("n_draws", "int", "Draws of this method: seeds of random ones, calibration samples of calibrated ones; NULL where nothing about it is drawn", unit="draws", range=COUNT, optional=True),
        Column("draws_sd", "float", f"Standard deviation of s* over the draws, a variance beside that over documents; {_DRAWS}", unit=OF_SCOPE, range=(0, 1), optional=True, evidence="O"),
        Column("draws_low", "float", f"Smallest s* of the draws; {_DRAWS}", unit=OF_SCOPE, range=(0, 1), optional=True),
        Column("draws_high", "float", f"Largest s* of the draws; {_DRAWS}", unit=OF_SCOPE, range=(0, 1), optional=True),
        Column("draws_words", "str", "What the draws say, in words; NULL where nothing about the method is drawn", optional=True),
        Column("words", "str", "The answer as a sentence's part"),
        Column("note", "str", "What limits the answer; NULL where nothing does", optional=True),
        Column("bend", "float", "A hint, ours: where the slope grows most. It depends on the range and always finds something; NULL without a bend, and of patterns", unit=OF_SCOPE, range=(0, 1), optional=True, evidence="O"),
    ),
    summary=True,
)  # fmt: skip

WHERE = Table(
    "pruned_where",
    "Where the removed weights sit: every matrix in scope at every level.",
    (*KEY, "level", "tensor"),
    (
        *CURVE,
        LEVEL,
        TENSOR,
        LAYER,
        ROLE,
        N_WEIGHTS,
        Column("n_zero", "int", "Zeros, those of the dense model included", unit="weights", range=COUNT),
        Column("n_already_zero", "int", "Zeros of the dense model", unit="weights", range=COUNT),
        Column("zero_share", "float", "n_zero / n_weights", unit="share of the matrix", range=(0, 1)),
    ),
)

TOKENS = Table(
    "point_tokens",
    "A few text windows, spread over the data, token by token at every level: which tokens get worse.",
    (*KEY, "level", "example", "position"),
    (
        *CURVE,
        LEVEL,
        Column("example", "int", "Number of the window in the data, whatever the split", range=COUNT),
        Column("document", "int", "Document it comes from, from 0", range=COUNT),
        Column("position", "int", "Place in the window where the model gave its answer, from 0", range=COUNT),
        Column("token_id", "int", "The right answer: of a causal model the token after that place", range=COUNT),
        Column("token", "str", "Its exact piece of text; NULL where there is no tokenizer", optional=True),
        Column(
            "loss", "float", "Its negative log-likelihood; NULL where infinite or no number", unit="nats", range=(0, 1e308), optional=True
        ),
        Column("delta", "float", "Loss minus that of the dense model; NULL as loss", unit="nats", range=ANY, optional=True),
    ),
)

SCOPE = Table(
    "scope_tensors",
    "Every parameter of the model: in scope, or left alone and why.",
    ("tensor",),
    (
        Column("tensor", "str", "Parameter; tied ones once"),
        Column("in_scope", "bool", "Whether its weights may be removed"),
        Column(
            "reason", "str", "Why it is left alone, which says nothing about how robust it is; NULL where it is in scope", optional=True
        ),
        Column("layer", "int", "Block, from 0; NULL outside of the blocks and out of scope", range=(0, 1e6), optional=True),
        Column("role", "str", "Path inside its block; NULL out of scope", optional=True),
        N_WEIGHTS,
    ),
)
_RANK = (
    "of s* among the curves on the same data (1: most can go), 95 % interval over documents; NULL between data, and where a curve does "
    "not cross its tolerance in every draw"
)
_BOTH = "NULL where one of the two does not cross its tolerance in nearly every draw"
DIFFERENCES = Table(
    "drop_differences",
    "Every pair of curves on the same data, on the same draws of the same documents; and each curve beside itself on the second data.",
    ("one", "other", "eps"),
    (
        Column("one", "str", "A curve: method, structure, scope"),
        Column("other", "str", "Another"),
        Column("eps", "float", "Tolerance", range=(0, 1e308)),
        Column("is_paired", "bool", "Whether both were measured on the same documents; where not, each has draws of its own and the interval is wider"),
        Column("difference", "float", f"s* of one minus s* of the other, median over draws; {_BOTH}", range=(-1, 1), optional=True, evidence="O"),
        Column("low", "float", f"Lower end of its 95 % interval; {_BOTH}", range=(-1, 1), optional=True),
        Column("high", "float", f"Upper end of its 95 % interval; {_BOTH}", range=(-1, 1), optional=True),
        Column("words", "str", "The difference, or why there is none, in words"),
        Column("one_rank_low", "int", f"Best rank of one: {_RANK}", range=(1, 1e6), optional=True),
        Column("one_rank_high", "int", f"Worst rank of one: {_RANK}", range=(1, 1e6), optional=True),
        Column("other_rank_low", "int", f"Best rank of the other: {_RANK}", range=(1, 1e6), optional=True),
        Column("other_rank_high", "int", f"Worst rank of the other: {_RANK}", range=(1, 1e6), optional=True),
    ),
)  # fmt: skip
TABLES = (POINTS, LOSSES, DROPS, DIFFERENCES, WHERE, TOKENS, SCOPE)
