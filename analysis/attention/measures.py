"""The measures of a head as columns: name, meaning, unit, range, and the sum that each is read from."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.spec import Column, Evidence
from analysis.stats.attention_measures import BLOCKS, FAIR, LOCAL, OF_DISTANCE, ROW, SINKS, TARGETS, THRESHOLDS

SHARE = (0.0, 1.0)
SEEN = (0.5, 0.25, 0.125)
"""Shares of the keys that are seen where they are subsampled (METHODS C18)."""
MANY = (0.0, 1e15)
NOT_CROSS = "NULL for cross-attention, where distances mean nothing"
NO_PROJECTION = "NULL where the output projection or the values could not be told"


@dataclass(frozen=True)
class Measure:
    """A mean over rows: the place of its sum and its column."""

    row: int
    column: Column

    @property
    def of_distance(self) -> bool:
        """Whether it means nothing for cross-attention."""
        return self.row in OF_DISTANCE


def _measure(
    row: int, name: str, meaning: str, unit: str, span: tuple[float, float] | None = SHARE, why: str = "", evidence: Evidence = "O"
) -> Measure:
    words = f"{meaning}; {why}, or no row has two valid keys" if why else f"{meaning}; NULL where no row has two valid keys"
    return Measure(row, Column(name, "float", words, unit=unit, range=span, optional=True, evidence=evidence))


MEASURES: tuple[Measure, ...] = (
    _measure(ROW.keys_90, "keys", "Keys needed to hold 90 % of a query's attention, on average", "keys", MANY),
    _measure(ROW.share_90, "key_share", "Keys needed to hold 90 % of a query's attention / its valid keys, on average", "share of valid keys"),
    _measure(ROW.rest_keys_90, "keys_beside_first", "Keys needed for 90 % of the attention beside the first key", "keys", MANY),
    _measure(ROW.entropy, "entropy", "Mean entropy of a query's attention", "nats", MANY),
    _measure(ROW.relative_entropy, "relative_entropy", "Mean of entropy / ln(valid keys): 1 is uniform", "share of uniform"),
    _measure(ROW.rest_entropy, "entropy_beside_first", "Mean entropy beside the first key, renormalised", "nats", MANY),
    _measure(ROW.effective_keys, "effective_keys", "Mean of exp(entropy)", "keys", MANY),
    _measure(ROW.gini, "gini", "Mean Gini of a query's weights over its valid keys (off by less than 0.011: keys of a bin count as equal)", "index", evidence="K"),
    _measure(ROW.max_weight, "max_weight", "Mean of a query's largest weight", "share of attention"),
    _measure(ROW.confidence, "confidence", "Mean of a query's largest weight on a key that is no special token (Voita)", "share of attention", why="NULL where special tokens are not known", evidence="3"),
    _measure(ROW.below_maximum, "below_maximum", "Share of valid keys with less than 1 % of the query's largest weight (ALISA)", "share of valid keys", evidence="3"),
    _measure(ROW.first, "first_mass", "Mean attention on the first token", "share of attention"),
    _measure(ROW.learned_sink, "learned_sink_mass", "Mean attention that learned sinks take, logits of no key in the softmax; all other measures are of the attention beside them", "share of attention", why="NULL where the model has none"),
    _measure(ROW.special, "special_mass", "Mean attention of other tokens on special tokens", "share of attention", why="NULL where special tokens are not known", evidence="K"),
    _measure(ROW.current, "current_mass", "Mean attention on the query's own token", "share of attention", why=NOT_CROSS, evidence="K"),
    _measure(ROW.previous, "previous_mass", "Mean attention on the token before", "share of attention", why=NOT_CROSS, evidence="K"),
    _measure(ROW.next, "next_mass", "Mean attention on the token after", "share of attention", why=NOT_CROSS, evidence="K"),
    _measure(ROW.local_64, "local_mass", "Mean attention on keys less than 64 tokens away", "share of attention", why=NOT_CROSS),
    _measure(ROW.span_95, "span", "Mean smallest w for which keys less than w tokens away hold 95 % of the attention", "tokens", MANY, NOT_CROSS),
    _measure(ROW.distance, "distance", "Mean distance of query and key, weighted by attention", "tokens", MANY, NOT_CROSS),
    _measure(ROW.value_first, "value_first_mass", "The first token's share of what is moved, A |v W_O|", "share of A |v W_O|", why=NO_PROJECTION),
    _measure(ROW.value_sink, "value_sink_mass", f"Share of the first {SINKS} tokens in what is moved", "share of A |v W_O|", why=NO_PROJECTION),
    _measure(ROW.value_current, "value_current_mass", "The own token's share of what is moved", "share of A |v W_O|", why=f"{NO_PROJECTION}, and for cross-attention"),
    _measure(ROW.value_entropy, "value_entropy", "Mean entropy of what is moved", "nats", MANY, NO_PROJECTION),
    _measure(ROW.head_norm, "head_norm", "Mean length of the head's output before the projection", "length", MANY, "NULL where it could not be seen"),
    _measure(ROW.output_norm, "output_norm", "Mean length of the head's output after the projection, |z W_O|", "length", MANY, NO_PROJECTION),
    _measure(ROW.valid_keys, "valid_keys", "Mean number of keys that a query may attend to", "keys", MANY),
)  # fmt: skip
"""Measures with one number per head; those with a parameter stand here at their usual one, and at all of them in `LEVELS`."""

LEVELS: tuple[tuple[str, float, int], ...] = (
    *(("keys", t, ROW.keys_50 + i) for i, t in enumerate(TARGETS)),
    *(("key_share", t, ROW.share_50 + i) for i, t in enumerate(TARGETS)),
    *(("below", t, ROW.below_1e4 + i) for i, t in enumerate(THRESHOLDS)),
    ("below_fair", FAIR, ROW.below_fair),
    *(("local_mass", float(w), ROW.local_4 + i) for i, w in enumerate(LOCAL)),
)
"""(measure, level, sum): the rows of `head_levels` that are means over rows."""
POSITION_LEVELS = tuple(one for one in LEVELS if one[2] not in {m.row for m in MEASURES})
"""The rows of `head_position_levels`: those of `LEVELS` that are no measure of their own."""
SEEN_LEVELS = tuple(("subsampled_agreement", share) for share in SEEN)
BLOCK_LEVELS: tuple[tuple[str, float], ...] = tuple(("block_density", float(b)) for b in BLOCKS)
LEVEL_WORDS = (
    "keys: keys needed to hold that share of the attention; key_share: the same / valid keys; below: share of valid keys with a weight "
    "under it; below_fair: under it / valid keys; local_mass: attention on keys less than so many tokens away; block_density: share of "
    "blocks of that width that are not negligible (SeerAttention); subsampled_agreement: cosine of the head's output where each query sees "
    "that share of its keys with the whole one (SSA)"
)
