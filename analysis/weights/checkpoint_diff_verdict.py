"""What two checkpoints seem to be to each other, by rules of ours, with the reasons in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from analysis.weights.checkpoint_diff_matching import BY_ADAPTER, Matching

if TYPE_CHECKING:
    from analysis.stats.comparing import PairSums

LEAST_RISE = 0.01
"""Of the share of zeros, for a pruned model whose other weights were trained on."""
MOST_REVIVED = 0.01
"""Of the base's zeros, for the same."""
LEAST_COSINE = 0.5
"""Below, two checkpoints share little: random ones of many weights have a cosine of 0."""


def verdict(matching: Matching, sums: Mapping[str, PairSums], total: PairSums) -> tuple[str, str]:
    """The name of the relation, and a sentence with the numbers that led to it."""
    n, n_changed = len(matching.pairs), sum(one.n_changed > 0 for one in sums.values())
    tensors = f"{n_changed:,} of {n:,} matched tensors changed"
    if not n:
        return "not compared", "no tensor of one is in the other."
    if matching.pairs[0].how == BY_ADAPTER:
        ranks = sorted({pair.after.rank for pair in matching.pairs})
        said = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        return "adapter", f"a low-rank change of {said} to {n:,} tensors: {_size(total)} of their norm."
    if not n_changed:
        if matching.unmatched:
            return "identical", f"all {total.n:,} weights that both have are the same; {len(matching.unmatched):,} tensors are not in both."
        return "identical", f"all {total.n:,} weights are the same."
    if total.n_new_zero and not total.n_revived and total.n_kept_same == total.n_kept:
        kept = f"base's {total.n_zero_base:,} zeros kept, " if total.n_zero_base else ""
        share = f"{total.n_new_zero:,} new zeros ({_share(total.n_new_zero, total.n)} of the weights)"
        return "pruned", f"{kept}{share}, all {total.n_kept:,} other weights unchanged; {tensors}."
    if total.n_revived and not total.n_new_zero and total.n_kept_same == total.n_kept:
        words = f"{total.n_revived:,} of the base's zeros are weights here, and all others are the same: the base is the pruned one"
        return "base pruned", f"{words}; {tensors}."
    if total.n_new_zero - total.n_revived > LEAST_RISE * total.n and total.n_revived <= MOST_REVIVED * total.n_zero_base:
        kept = f"{_share(total.n_zero_both, total.n_zero_base)} of the base's zeros kept, " if total.n_zero_base else ""
        same = f"{_share(total.n_kept_same, total.n_kept)} of the other weights unchanged"
        return "pruned and retrained", f"{kept}{total.n_new_zero:,} new zeros ({_share(total.n_new_zero, total.n)}), {same}; {tensors}."
    likeness = "no cosine, since one is all zero" if total.cosine is None else f"cosine {total.cosine:.4f}"
    words = f"{tensors}, {_share(total.n_changed, total.n)} of the weights, by {_size(total)} of the base's norm; {likeness}."
    return ("fine-tuned" if (total.cosine or 0.0) >= LEAST_COSINE else "unrelated"), words


def _size(total: PairSums) -> str:
    return "an unknown share" if total.relative_change is None else f"{total.relative_change:.3%}"


def _share(n: int, of: int) -> str:
    return f"{n / of:.3%}" if of else "0 %"
