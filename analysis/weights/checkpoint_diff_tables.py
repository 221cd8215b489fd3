"""The tables of `checkpoint_diff`: every column with its type, unit, meaning and range."""

from __future__ import annotations

from analysis.spec import Column, Table
from analysis.weights.columns import BLOCK, COUNT, KIND, LAYER, ROLE, SHAPE, SHARE, SIZE, optional_share

_COUNTS = (
    Column("n_weights", "int", "Weights compared: finite in both", unit="weights", range=COUNT),
    Column("n_changed", "int", "Weights with another value than in the base", unit="weights", range=COUNT),
    optional_share(
        "changed_share", "Changed / compared; one minus it is the sparsity of the difference; NULL where none could be compared"
    ),
    Column("n_zero", "int", "Exact zeros in the model", unit="weights", range=COUNT),
    Column("n_zero_base", "int", "Exact zeros in the base", unit="weights", range=COUNT),
    Column("n_new_zero", "int", "Zero in the model, not in the base", unit="weights", range=COUNT),
    Column("n_revived", "int", "Zero in the base, not in the model", unit="weights", range=COUNT),
)
_OVERLAP = (
    optional_share("kept_same_share", "Of the weights that are zero in neither: unchanged ones; NULL where there are none"),
    optional_share("mask_overlap", "Non-zero in both / non-zero in either (IoU); NULL where both are all zero"),
    optional_share("mask_chance", "What two random masks of these densities would overlap by; NULL where mask_overlap is"),
    Column("cosine", "float", "Cosine of model and base; NULL where either is all zero", range=(-1, 1), optional=True, evidence="O"),
    Column("norm_ratio", "float", "Norm of the model / norm of the base; NULL where the base is all zero", range=SIZE, optional=True),
    Column(
        "relative_change",
        "float",
        "Norm of the difference / norm of the base; NULL where the base is all zero and the model is not",
        range=SIZE,
        optional=True,
        evidence="O",
    ),
)
_CHANGE = (*_COUNTS, *_OVERLAP)
"""What `PairSums` says, of one tensor or of many."""

TENSORS = Table(
    "tensor_diffs",
    "A row per matched tensor: the model's beside the base's.",
    ("tensor",),
    (
        Column("tensor", "str", "Its name in the model; of an adapter the module it changes"),
        Column("base_tensor", "str", "Its name in the base"),
        Column("matched", "str", "name, prefix, shape, or adapter: how the two were taken for the same tensor; shape is the weakest"),
        Column("matched_words", "str", "The same in words"),
        LAYER,
        KIND,
        ROLE,
        SHAPE,
        Column("dtype", "str", "Type it is stored in"),
        Column("base_dtype", "str", "Type the base's is stored in: rounding to another one changes values, too"),
        Column(
            "n_nonfinite", "int", "NaN, infinite or beyond 1e150 in either; left out of every other number", unit="weights", range=COUNT
        ),
        *_CHANGE,
        Column("change_norm", "float", "Norm of the difference (Frobenius)", range=SIZE),
        Column("base_norm", "float", "Norm of the base", range=SIZE),
        Column("largest_change", "float", "Largest |difference|", range=SIZE),
        Column(
            "change_pq_index",
            "float",
            "PQ Index (p = 0.5, q = 1) of the difference: 0 all changed alike, near 1 few carry it; NULL where nothing changed",
            range=SHARE,
            optional=True,
            evidence="C",
        ),
        Column(
            "stable_rank",
            "float",
            "Of the difference: squared norm / squared largest singular value (mean over a stack); NULL for vectors, where nothing "
            "changed, or where not all is finite",
            range=(1, 1e9),
            optional=True,
            evidence="O",
        ),
        Column(
            "effective_rank",
            "float",
            "Of the difference: exp(entropy of its singular values); NULL as stable_rank, and where not all of them were computed",
            range=(1, 1e9),
            optional=True,
            evidence="O",
        ),
        Column(
            "rank_99",
            "float",
            "Smallest rank that holds 99 % of the squared norm of the difference (mean over a stack); NULL as stable_rank, and where too "
            "few singular values were computed",
            range=(0, 1e9),
            optional=True,
            evidence="O",
        ),
        Column(
            "random_rank",
            "float",
            "Stable rank of independent random entries of this shape: what a difference without structure has; NULL as stable_rank",
            range=(1, 1e9),
            optional=True,
            evidence="O",
        ),
        Column(
            "rank_method",
            "str",
            "gram: all singular values; factors: all, from an adapter's factors; randomised: the largest only; NULL as stable_rank",
            optional=True,
        ),
    ),
)

ROWS = Table(
    "changed_rows",
    "The rows (entries of the first axis, as stored) of each matrix that changed most, with what they changed by.",
    ("tensor", "row"),
    (
        Column("tensor", "str", "Its name in the model"),
        Column("row", "int", "Index along the first axis, from 0", range=COUNT),
        Column("axis", "str", "What the first axis counts: output, input (of transposed layers), or stored: not known"),
        Column("share_of_change", "float", "Of the squared norm of the tensor's difference", unit="share", range=SHARE, evidence="O"),
        Column("changed_share", "float", "Changed weights of the row", unit="share", range=SHARE),
        Column("change_norm", "float", "Norm of the difference", range=SIZE),
        Column("base_norm", "float", "Norm of the base's row", range=SIZE),
    ),
    order=("tensor", "share_of_change"),
)

TILES = Table(
    "diff_tiles",
    "A small picture of each matrix: its weights in a grid of tiles, the first axis down, all others across.",
    ("tensor", "tile_row", "tile_column"),
    (
        Column("tensor", "str", "Its name in the model"),
        Column("tile_row", "int", "Tile along the first axis, from 0", range=(0, 1e6)),
        Column("tile_column", "int", "Tile across, from 0", range=(0, 1e6)),
        Column("n_weights", "int", "Weights in the tile", unit="weights", range=COUNT),
        Column("changed_share", "float", "Changed weights of the tile", unit="share", range=SHARE),
        Column("new_zero_share", "float", "Weights of the tile that are zero in the model and not in the base", unit="share", range=SHARE),
    ),
)

UNMATCHED = Table(
    "unmatched",
    "Tensors of either side that have none on the other, and why; none of them is in any other number.",
    ("side", "tensor"),
    (
        Column("side", "str", "model or base"),
        Column("tensor", "str", "Its name"),
        Column("shape", "list[int]", "Sizes of its axes", range=COUNT),
        Column("n_weights", "int", "Its weights", unit="weights", range=COUNT),
        Column("reason", "str", "Why it has no partner"),
    ),
)

TOTALS = Table(
    "diff_totals",
    "A row per scope, over all matched tensors.",
    ("scope",),
    (
        Column("scope", "str", "all weights; block matrices (two or more axes, inside blocks); everything else"),
        Column("n_tensors", "int", "Matched tensors in the scope", unit="tensors", range=COUNT),
        Column("n_changed_tensors", "int", "Those with a changed weight", unit="tensors", range=COUNT),
        *_CHANGE,
    ),
    summary=True,
)

LAYERS = Table(
    "diff_layers",
    "A row per block and kind of matched tensor.",
    ("layer", "kind"),
    (
        BLOCK,
        Column("kind", "str", "attention, ffn, norm, bias, ..., by owner and name"),
        *_CHANGE,
    ),
    summary=True,
)

VERDICT = Table(
    "diff_verdict",
    "What the two checkpoints seem to be to each other, in one row. The rule is ours.",
    ("verdict",),
    (
        Column(
            "verdict",
            "str",
            "identical, adapter, pruned, pruned and retrained, base pruned, fine-tuned, unrelated, or not compared",
            evidence="O",
        ),
        Column("words", "str", "The reasons in a sentence"),
        Column("base", "str", "The base's label"),
        Column("n_matched", "int", "Matched tensors", unit="tensors", range=COUNT),
        Column("n_by_prefix", "int", "Of them by names behind another prefix", unit="tensors", range=COUNT),
        Column("n_by_shape", "int", "Of them by shape and order alone", unit="tensors", range=COUNT),
        Column("n_unmatched", "int", "Tensors without a partner, of both sides", unit="tensors", range=COUNT),
        Column("n_unmatched_weights", "int", "Their weights", unit="weights", range=COUNT),
    ),
    summary=True,
)

TABLES = (TENSORS, ROWS, TILES, UNMATCHED, TOTALS, LAYERS, VERDICT)
