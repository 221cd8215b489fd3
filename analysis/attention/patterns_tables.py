"""The tables of `head_patterns`: every column with its type, unit, meaning and range."""

from __future__ import annotations

import math

from analysis.attention.tables import KEY, PLACE
from analysis.spec import Column, Evidence, Table
from analysis.stats.pattern_masks import CLASSES
from analysis.stats.pattern_shapes import SHAPES

SHARE = (0.0, 1.0)
MANY = (0.0, 1e15)
CURVES = ("hip", "oracle", "sparse", "low rank", "sparse and low rank")
COUNTED = tuple(shape.replace(" ", "_").replace("-", "_") for shape in SHAPES)
"""Shapes as names of columns."""


def _place(end: str = "") -> tuple[Column, ...]:
    tail = f"_{end}" if end else ""
    return (
        Column(f"layer{tail}", "int", "Rank of the block, from 0, by first execution", range=(0, 1e6)),
        Column(f"hook_name{tail}", "str", "Name of the site: its module path and operator"),
        Column(f"turn{tail}", "int", "Which call of the site in a forward pass, from 0", range=(0, 1e6)),
    )


def _head(end: str = "") -> tuple[Column, ...]:
    return (*_place(end), Column(f"head_{end}" if end else "head", "int", "Head of queries, from 0", range=(0, 1e6)))


def _share(name: str, meaning: str, unit: str = "share of attention", evidence: Evidence = "O") -> Column:
    return Column(name, "float", meaning, unit=unit, range=SHARE, evidence=evidence)


def _maybe(name: str, meaning: str, unit: str, evidence: Evidence, span: tuple[float, float] = SHARE) -> Column:
    return Column(name, "float", meaning, unit=unit, range=span, optional=True, evidence=evidence)


def _count(name: str, meaning: str, unit: str) -> Column:
    return Column(name, "int", meaning, unit=unit, range=(0, 1e15))


ROWS = "queries in the later half of a window; all queries where heads look ahead"
AT_BUDGET = "at the budget"
CAUSAL_ONLY = "NULL for causal attention, where all importance ends at the first token"
NO_OUTPUT = "NULL where the heads' outputs could not be seen"
NO_LOSS = "NULL unless causal and the task has answers to take a loss of (see the facts)"

_CLASS = (
    Column(
        "pattern", "str", f"MInference's class with the best mean recall at the budget ({', '.join(CLASSES)}; the simpler where two are "
        "within .001)", evidence="C",
    ),
    _share("pattern_agreement", "Windows whose own best class is that one / windows", "share of windows"),
    _share("a_shape_recall", f"Attention on the first and the last keys {AT_BUDGET}, a ninth of it on the first; mean over {ROWS}", evidence="C"),
    _share("lines_recall", f"Attention on the best columns and diagonals {AT_BUDGET} (vertical-slash), chosen on the last 64 queries; mean over the same", evidence="C"),
    _share("blocks_recall", f"Attention on the blocks with the highest mean score {AT_BUDGET} (block-sparse); mean over the same", evidence="C"),
    _share("a_shape_density", "Pairs that the A-shape keeps / valid pairs of these queries", "share of pairs", "C"),
    _share("lines_density", "Pairs that columns and diagonals keep / valid pairs of these queries", "share of pairs", "C"),
    _share("blocks_density", "Pairs that the blocks keep / valid pairs of these queries", "share of pairs", "C"),
    _share("block_sum_recall", f"Attention on as many blocks with the largest sum {AT_BUDGET} (AdaSpa, with this run's width of blocks and budget): the most that whole blocks hold; mean over the same", evidence="3"),
)  # fmt: skip
_SHAPE = (
    Column("shape", "str", f"What the pattern looks like, by the first rule that holds of: {', '.join(SHAPES)}", evidence="O"),
    _share("shape_agreement", "Windows whose own shape is that one / windows", "share of windows"),
    _share("sink_share", "Attention on the few columns that have most (up to 4, a sixteenth of the window)"),
    _share("local_share", f"Attention on the nearest keys {AT_BUDGET}"),
    _share("evenness", "Entropy / ln(valid keys)", "share of uniform"),
    Column("block_gain", "float", "How much more attention stays within blocks of 8 to 64 tokens than distances alone would keep there: 1 where no border is crossed, 0 where borders do not matter", range=(-1, 1), evidence="O"),
)  # fmt: skip

HEADS = Table(
    "head_patterns",
    "A row per head: means over the stored windows; what it looks like, and how well a few keys, a low rank or a shorter span would do.",
    KEY,
    (
        *_head(),
        Column("causal", "bool", "No query sees a later key"),
        _count("n_windows", "Windows that this is the mean over", "windows"),
        _count("keys", "The budget in keys per query, of the longest of these windows", "keys"),
        *_CLASS,
        *_SHAPE,
        _maybe("span", "Shortest span (its last blocks and the first) whose predicted increase of the loss, and that of all longer ones, stays within the tolerance, by summed influence (MoA's); "
               f"{NO_LOSS}", "tokens", "C", MANY),
        _maybe("span_at_once", f"The same by the change to first order where all keys beyond it are masked at once; {NO_LOSS}", "tokens", "O", MANY),
        _share("hip_mass", f"Attention on the keys that hierarchical pruning (HiP, nothing kept beside) finds {AT_BUDGET}; mean over {ROWS}", evidence="C"),
        _share("oracle_mass", f"Attention on the largest keys {AT_BUDGET}: the most there is; mean over the same", evidence="C"),
        _share("hip_recall", "hip_mass / oracle_mass: 1 where the keys found are as good as the best", "share of oracle", "C"),
        _share("sparse_error", f"|A - B| / |A| with B the largest weights of each row {AT_BUDGET}, not renormalised (Scatterbrain)", "share of norm"),
        _share("low_rank_error", "The same with B of the rank that takes as many numbers (half the keys)", "share of norm"),
        _share("combined_error", "The same with half the numbers as entries and half as rank, by alternating projections; an upper bound", "share of norm"),
        _maybe("page_rank_top", f"Importance of the most important tenth of tokens by weighted page rank (Zero-TPrune); {CAUSAL_ONLY}", "share of importance", "3"),
        _maybe("page_rank_variance", f"Variance of importance x tokens; Zero-TPrune counts heads between .01 and .7; {CAUSAL_ONLY}", "", "3", MANY),
        _maybe("nearest_divergence", "Jensen-Shannon divergence to the most similar head of its layer; NULL for a layer's only head", "nats", "C", (0, math.log(2))),
        _maybe("nearest_cosine", f"Largest cosine of outputs with another head of its layer (EfficientViT); {NO_OUTPUT}, or a layer's only head", "cosine", "K", (-1, 1)),
        _count("cluster", "Cluster of redundant heads within the layer, from 0", ""),
        _count("leaf", "Place of the head in the dendrogram, from 0, so that no branches cross", ""),
    ),
)  # fmt: skip

CURVE_TABLE = Table(
    "head_budgets",
    "What a few keys or numbers would hold, at half the budget, the budget, and twice it.",
    (*KEY, "method", "level"),
    (
        *_head(),
        Column("method", "str", "hip, oracle: attention kept by hierarchical pruning, by the largest keys; sparse, low rank, sparse and low rank: error |A - B| / |A| at as many numbers"),
        Column("level", "float", "Multiple of the budget", range=(0, 10)),
        Column("share", "float", "Keys per query / tokens of the window", unit="share of window", range=SHARE),
        Column("value", "float", "Attention kept (higher is better), or error (lower is better)", unit="as the method says", range=(0, 10), evidence="O"),
    ),
)  # fmt: skip

SPANS = Table(
    "head_spans",
    "Predicted increase of the loss by span of causal heads, from one gradient (MoA); no rows where there is no loss.",
    (*KEY, "span"),
    (
        *_head(),
        Column("span", "int", "Span: its last blocks up to the query's own, beside the first block", unit="tokens", range=(1, 1e9)),
        Column("summed", "float", "Sum of |E| over what is masked, E the influence of masking one weight", unit="loss per scored position", range=MANY, evidence="C"),
        Column("at_once", "float", "Change to first order where all of it is masked at once", unit="loss per scored position", evidence="O"),
    ),
)  # fmt: skip

_BOTH = (*_head("a"), *_head("b"))
_PAIR_KEY = tuple(c.name for c in _BOTH)
WITHIN = "NULL for heads of different places"

PAIRS = Table(
    "head_pairs",
    "Similar heads: all pairs within a place, and for every head the most similar ones elsewhere (both directions once).",
    _PAIR_KEY,
    (
        *_BOTH,
        Column("within", "bool", "Both are heads of one call of attention"),
        Column("overlap", "float", "Mean of sum sqrt(p q) of patterns pooled to 16 x 16 parts (Bhattacharyya): 1 for equal ones", range=SHARE, evidence="O"),
        _maybe("agreement", f"Mean inner product of the two heads' weights; {WITHIN}", "share of attention", "C"),
        _maybe("divergence", f"Mean Jensen-Shannon divergence of the two heads' weights; {WITHIN}", "nats", "C", (0, math.log(2))),
        _maybe("output_cosine", f"Mean cosine of the two heads' outputs before the projection; {WITHIN}, or without outputs", "cosine", "C", (-1, 1)),
        _maybe("output_cka", f"Linear CKA of the two heads' outputs; {WITHIN}, or without outputs", "index", "C"),
    ),
)  # fmt: skip

MERGES = Table(
    "head_merges",
    "The dendrogram of each place, as average linkage joins its heads: numbers below the heads are heads, later ones earlier merges.",
    (*PLACE, "merge"),
    (
        *_place(),
        _count("merge", "Number of this merge, the place's heads plus its order", ""),
        _count("left", "What is joined: a head, or the number of an earlier merge", ""),
        _count("right", "The other", ""),
        _share("distance", "Mean of sqrt(JS / ln 2) between the heads of the two: 0 for the same pattern", ""),
        _count("n_heads", "Heads inside", "heads"),
        Column("left_at", "float", "Where the left branch stands, in leaves", range=MANY),
        Column("right_at", "float", "Where the right branch stands, in leaves", range=MANY),
        _share("left_from", "Height at which the left branch begins: its own distance, 0 for a head", ""),
        _share("right_from", "Height at which the right branch begins", ""),
    ),
)

LAYERS = Table(
    "pattern_layers",
    "A row per place with attention: its heads by shape and class, and how alike they are.",
    PLACE,
    (
        *_place(),
        _count("n_heads", "Heads of queries", "heads"),
        _count("n_windows", "Windows looked at", "windows"),
        _share("agreement", "Mean inner product of the weights of all pairs of heads, each with itself included (Li et al.'s attention term)", evidence="C"),
        _maybe("output_agreement", f"Mean cosine of the outputs of all pairs of heads, each with itself included; {NO_OUTPUT}", "cosine", "C", (-1, 1)),
        _maybe("n_ranked", f"Heads per window whose page rank Zero-TPrune counts (variance of importance x tokens from .01 to .7); {CAUSAL_ONLY}", "heads", "3", MANY),
        _maybe("importance_top", "Importance over these heads (root mean square) of the most important tenth of tokens; NULL for causal attention, or where no head is counted", "share of importance", "3"),
        _count("n_clusters", "Clusters of heads that look at nearly the same keys", "clusters"),
        *(_count(f"n_{name}", f"Heads whose shape is {shape}", "heads") for name, shape in zip(COUNTED, SHAPES, strict=True)),
        *(_count(f"n_class_{c.lower().replace('-', '_')}", f"Heads whose best class is {c}", "heads") for c in CLASSES),
    ),
    summary=True,
)  # fmt: skip

TABLES = (LAYERS, HEADS, CURVE_TABLE, SPANS, PAIRS, MERGES)
