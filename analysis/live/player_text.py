"""Next tokens of the playground: the most probable ones, and a text continued token by token. Part of the worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from analysis.live.playing import TOP

if TYPE_CHECKING:
    from torch import Tensor


def most_probable(logits: Tensor, k: int = TOP) -> list[list[list[float]]]:
    """Of logits [tokens, vocabulary] at each token the k most probable next ones: [id, probability], most probable first; none where
    the logits are not finite."""
    k = min(k, logits.shape[-1])
    found: list[list[list[float]]] = []
    for rows in logits.split(64):  # float64 of everything would be large
        best, ids = rows.max(-1, keepdim=True) if k == 1 else rows.topk(k, dim=-1)
        share = (best.double() - rows.double().logsumexp(-1, keepdim=True)).exp()
        finite = share.isfinite().all(-1).tolist()
        for is_finite, pair in zip(finite, zip(ids.tolist(), share.tolist(), strict=True), strict=True):
            found.append([[i, p] for i, p in zip(*pair, strict=True)] if is_finite else [])
    return found


def endings(subject: Any) -> set[int]:
    """Ids that end a text: of the tokenizer and of the model's own settings for generation."""
    stated = [getattr(subject.tokenizer, "eos_token_id", None)]
    given = getattr(getattr(subject.model, "generation_config", None), "eos_token_id", None)
    stated += given if isinstance(given, list) else [given]
    return {one for one in stated if isinstance(one, int)}


def continued(
    answer: Callable[[list[int]], Tensor], ids: list[int], n: int, ends: set[int], *, temperature: float = 0.0, seed: int = 0
) -> tuple[list[int], bool]:
    """Up to ``n`` further ids, and whether one of ``ends`` came, which is left off.

    ``answer(ids)``: logits [vocabulary] behind these ids; the whole text is read anew for each token, so that interventions act as they
    do on a prompt. ``temperature`` 0: the most probable token, the first of equals; else drawn from softmax(logits / temperature).
    """
    import torch

    made: list[int] = []
    draw = torch.Generator().manual_seed(seed)
    for _ in range(n):
        logits = answer([*ids, *made]).float().cpu()
        if temperature > 0:
            following = int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=draw))
        else:
            following = int(logits.argmax())
        if following in ends:
            return made, True
        made.append(following)
    return made, False
