"""The tables of `head_sparsity`: every column with its type, unit, meaning and range."""

from __future__ import annotations

from analysis.attention.measures import LEVEL_WORDS, MANY, MEASURES, NOT_CROSS, SHARE
from analysis.spec import Column, Evidence, Table
from analysis.stats.attention_measures import BLOCK_THRESHOLD, HEAVY, LATER, SINK_STRENGTH, SINKS, ZIPVL

PLACE = ("layer", "hook_name", "turn")
KEY = (*PLACE, "head")

PLACE_COLUMNS = (
    Column("layer", "int", "Rank of the block, from 0, by first execution", range=(0, 1e6)),
    Column("hook_name", "str", "Name of the site: its module path and operator"),
    Column("turn", "int", "Which call of the site in a forward pass, from 0: layers that share weights run several times", range=(0, 1e6)),
)
_HEAD = (*PLACE_COLUMNS, Column("head", "int", "Head of queries, from 0", range=(0, 1e6)))
_KIND = (
    Column("operator", "str", "What computes the attention: sdpa, softmax or mha (torch's own module)"),
    Column("causal", "bool", "No query sees a later key"),
    Column("crosses", "bool", "Queries and keys are different sequences (cross-attention)"),
)


def _count(name: str, meaning: str, unit: str) -> Column:
    return Column(name, "int", meaning, unit=unit, range=(0, 1e15))


def _share(name: str, meaning: str, unit: str = "share of attention", evidence: Evidence = "O") -> Column:
    return Column(name, "float", meaning, unit=unit, range=SHARE, optional=True, evidence=evidence)


def _limits(name: str, words: str) -> tuple[Column, Column]:
    return tuple(
        Column(
            f"{name}_{end}",
            "float",
            f"{which} end of the 95 % interval of {words} over documents; NULL for a single document",
            optional=True,
        )
        for end, which in (("low", "Lower"), ("high", "Upper"))
    )  # type: ignore[return-value]


KEPT_ON = "on two windows, queries in their second half; NULL unless causal, without padding and of 8 to 512 tokens"

_POSITION = (
    Column("position_from", "int", "First query position of the bin, from 0 at the first token", unit="tokens", range=(0, 1e9)),
    Column("position_to", "int", "Last query position of the bin", unit="tokens", range=(0, 1e9)),
)
_ROWS = _count("n_rows", "Queries averaged over: real tokens with two or more valid keys", "queries")

HEADS = Table(
    "heads",
    "A row per head: means over queries with two or more valid keys. Weights are counted on valid keys only, padding never.",
    KEY,
    (
        *_HEAD,
        *_KIND,
        _ROWS,
        _count("n_pairs", "Valid pairs of query and key in these", "pairs"),
        *(m.column for m in MEASURES),
        *_limits("key_share", "`key_share`"),
        *_limits("relative_entropy", "`relative_entropy`"),
        *_limits("first_mass", "`first_mass`"),
        *_limits("local_mass", "`local_mass`"),
        _share("sink_mass", f"Mean attention on the first {SINKS} tokens, of queries at position {LATER} or later (StreamingLLM); NULL without such", evidence="C"),
        Column("detected_sinks", "float", f"Keys per window that {LATER} or more later queries give at least {SINK_STRENGTH:.0%} on average; {NOT_CROSS}, or windows are too short", unit="keys", range=MANY, optional=True, evidence="O"),
        _share("detected_sink_mass", f"Attention of queries at position {LATER} or later on detected sinks, as a share; NULL as above"),
        _share("heavy_mass", f"Share of a window's attention that the {HEAVY:.0%} of keys with the most of it receive (H2O's statistic over all queries, later ones included); NULL where no query has a valid key", evidence="C"),
        _share("zipvl", f"Smallest share of a window's keys that receive {ZIPVL:.1%} of its attention; NULL where no query has a valid key", "share of keys", "K"),
        _share("block_density", f"Share of 64 x 64 blocks whose largest weight is at least {BLOCK_THRESHOLD:g} of its block row's (SeerAttention); NULL for windows of 64 or fewer", "share of blocks", "C"),
        Column("slope", "float", "Slope of ln(keys for 90 %) on ln(position + 1) over the bins from position 8 on, each weighing the same: 0 means that the number of keys does not grow with context, 1 that it grows with it; NULL with fewer than three bins", optional=True, evidence="O"),
        _share("channel_share", "Share of mean |q_c k_c| in the quarter of channels with most of it (Double Sparsity); NULL where q and k are not of the same tokens or were not seen", "share of |q_c k_c|", "C"),
        _share("h2o_mass", f"Attention that H2O's local policy would keep with 20 % of a window's keys, half of them the latest; {KEPT_ON}", evidence="C"),
        _share("alisa_mass", f"Attention that ALISA would keep with 20 % of a query's keys, half of them the latest; {KEPT_ON}", evidence="3"),
        _share("quarter_mass", f"Attention on the quarter of a query's keys with the largest weights (an oracle, at Sparsifiner's keep rate); {KEPT_ON}", evidence="C"),
        _share("channel_mass", f"Attention on the quarter of keys that a quarter of the channels would choose (Double Sparsity; channels chosen on the same window); {KEPT_ON}, and where q and k were not seen", evidence="C"),
        _share("keyformer_mass", f"Attention that Keyformer's policy would keep with 20 % of a window's keys, 30 % of them the latest; mean over 5 draws of its noise, temperature 1 to 2 over the window; {KEPT_ON}", evidence="C"),
        _share("keyformer_spread", "Standard deviation of that over the draws; NULL likewise", evidence="O"),
        Column("subsampled_agreement", "float", f"Cosine of the head's output where each query sees a random half of its keys (and the own and first) with the whole one, mean over 8 draws (SSA's robustness, of a head instead of the loss); {KEPT_ON}, and where the values were not seen", unit="cosine", range=(-1, 1), optional=True, evidence="O"),
        _share("copying_score", "Share of other tokens whose logit v W_O raises less than that of the token it is moved from, mean over tokens: 1 copies, 0.5 has nothing to do with the token; NULL where the unembedding does not read what the head writes, or no values or projection were seen", "share of tokens"),
        _share("previous_score", "On repeated random tokens: mean attention on the token before; NULL where no such text could be made"),
        _share("duplicate_score", "On repeated random tokens: mean attention of the second copy on the same token in the first; NULL likewise", evidence="C"),
        _share("induction_score", "On repeated random tokens: mean attention of the second copy on the token after that one; NULL likewise", evidence="C"),
        _share("previous_mul", "On repeated random tokens: share of the attention on the token before (head detector, mul); NULL likewise", evidence="C"),
        Column("previous_abs", "float", "On repeated random tokens: 1 - n mean|A - D|, D being 1 on the token before (head detector, abs); NULL likewise", unit="index", range=(-1, 1), optional=True, evidence="C"),
        _share("duplicate_mul", "On repeated random tokens: share of the attention on earlier copies of the token (head detector, mul); NULL likewise", evidence="C"),
        Column("duplicate_abs", "float", "On repeated random tokens: 1 - n mean|A - D|, D being 1 on earlier copies of the token (head detector, abs); NULL likewise", unit="index", range=(-1, 1), optional=True, evidence="C"),
        _share("induction_mul", "On repeated random tokens: share of the attention on tokens after earlier copies (head detector, mul); NULL likewise", evidence="C"),
        Column("induction_abs", "float", "On repeated random tokens: 1 - n mean|A - D|, D being 1 on tokens after earlier copies (head detector, abs); NULL likewise", unit="index", range=(-1, 1), optional=True, evidence="C"),
    ),
)  # fmt: skip

LEVELS = Table(
    "head_levels",
    "Measures with a parameter, at each of its levels.",
    (*KEY, "measure", "level"),
    (
        *_HEAD,
        Column("measure", "str", LEVEL_WORDS),
        Column("level", "float", "The parameter: share, threshold, tokens or block width", range=MANY),
        Column(
            "value",
            "float",
            "Mean over queries (of block_density: over windows; of subsampled_agreement: of their second half, over draws)",
            unit="as the measure says",
            range=(-1, 1e15),
            evidence="O",
        ),
    ),
)

POSITIONS = Table(
    "head_positions",
    "The measures by query position, in bins that double: heads are compared at equal positions, and growth with context shows.",
    (*KEY, "position_from"),
    (
        *_HEAD,
        *_POSITION,
        _ROWS,
        *(m.column for m in MEASURES),
        Column("sink_mass", "float", f"Mean attention on the first {SINKS} tokens", unit="share of attention", range=SHARE, evidence="C"),
    ),
)

POSITION_LEVELS = Table(
    "head_position_levels",
    "Measures with a parameter by query position, in the bins of `head_positions`, which has their usual levels. Those of whole windows (block density, detected sinks, "
    "heavy hitters, ZipVL) and of few windows (what rules would keep) have no position.",
    (*KEY, "measure", "level", "position_from"),
    (
        *_HEAD,
        Column("measure", "str", "As in `head_levels`"),
        Column("level", "float", "The parameter: share, threshold or tokens", range=MANY),
        _POSITION[0],
        Column("value", "float", "Mean over the queries of the bin", unit="as the measure says", range=(0, 1e15), evidence="O"),
    ),
)

DISTANCES = Table(
    "head_distances",
    "Attention by distance between query and key, in bins that double; none for cross-attention.",
    (*KEY, "distance_from"),
    (
        *_HEAD,
        Column("distance_from", "int", "Smallest distance of the bin", unit="tokens", range=(0, 1e9)),
        Column("distance_to", "int", "Largest distance of the bin", unit="tokens", range=(0, 1e9)),
        Column("mass", "float", "Mean attention at these distances", unit="share of attention", range=SHARE, evidence="O"),
    ),
)

LAYERS = Table(
    "attention_layers",
    "A row per place with attention: means over its heads.",
    PLACE,
    (
        *PLACE_COLUMNS,
        *_KIND,
        _count("n_heads", "Heads of queries", "heads"),
        _count("n_queries", "Real tokens that asked", "queries"),
        _count("n_masked", "Of these without a valid key (fully masked rows): left out", "queries"),
        _count("n_single", "Of these with a single valid key, one-hot by construction: left out", "queries"),
        _share("key_share", "Mean over heads of the share of valid keys that hold 90 % of the attention; NULL where no query has two valid keys", "share of valid keys"),
        _share("relative_entropy", "Mean over heads of entropy / ln(valid keys); NULL likewise", "share of uniform"),
        _share("first_mass", "Mean over heads of the attention on the first token; NULL likewise"),
        _share("local_mass", "Mean over heads of the attention on keys less than 64 tokens away; NULL likewise, and for cross-attention"),
        _count("n_sink_heads", "Heads with more than 30 % of the attention of later queries on the first 4 tokens", "heads"),
    ),
    summary=True,
)  # fmt: skip

TABLES = (LAYERS, HEADS, LEVELS, POSITIONS, POSITION_LEVELS, DISTANCES)
