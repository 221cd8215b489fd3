"""Whether what a head moves from a token raises the logit of that same token: the copying score of its OV circuit, on text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def copying(moved: Tensor, own: Tensor, others: Tensor, counted: Tensor) -> Tensor:
    """Mean over tokens of the share of other tokens whose logit a head's v W_O raises less than that of the token it is moved from.

    ``moved`` [heads, n, d]: v W_O of every key, as the unembedding sees it; ``own`` [n, d] and ``others`` [m, d]: rows of the unembedding;
    ``counted`` [n]: tokens that count. [heads], range 0 to 1: 1 copies, 0.5 has nothing to do with the token, 0 suppresses it. Equal
    logits count half: own 2 among 1, 3, 2, 0 gives 0.625. Source: ours; after Elhage et al. 2021, on tokens instead of eigenvalues.
    """
    mine = (moved * own).sum(-1, keepdim=True)
    theirs = moved @ others.T
    below = (mine > theirs).double().mean(-1) + (mine == theirs).double().mean(-1) / 2
    return below[:, counted].mean(-1)
