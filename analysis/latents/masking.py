"""Which tokens of a text count when a dictionary is judged: the same in every arm of a comparison."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.latents.dictionary import Dictionary


def begins_with_special(data: Any) -> bool:
    """Whether every window begins with a token that stands for no text, such as BOS or CLS."""
    return data.token_ids is not None and data.special is not None and bool(data.special[:, 0].all())


@dataclass(frozen=True)
class Mask:
    """Which tokens of a text are judged, and replaced in every arm alike: not special, and at a position that training used."""

    special: frozenset[int] = field(default=frozenset(), repr=False)
    """Ids of tokens that stand for no text."""
    positions: tuple[int | None, int | None] = (None, None)
    """First and last but one position of a window, as a slice has them; None for the window's ends."""

    @classmethod
    def of(cls, subject: Any, dictionary: Dictionary | None = None) -> Mask:
        """The subject's special tokens (its mask token left out, which stands for text), and the positions the dictionary was trained on
        (`seqpos_slice` of sae-lens' metadata)."""
        from analysis.models.pieces import added_tokens, reserved_ids

        given = [] if dictionary is None else list(dictionary.metadata.get("seqpos_slice") or [])
        start, stop = (given + [None, None])[:2] if len(given) != 1 else (None, given[0])
        tokenizer = subject.tokenizer
        if tokenizer is None:
            return cls(frozenset(), (start, stop))
        before, after = added_tokens(tokenizer)
        ids = frozenset(reserved_ids(tokenizer) | {*before.tolist(), *after.tolist()}) - {getattr(tokenizer, "mask_token_id", None)}
        return cls(ids, (start, stop))

    def judged(self, ids: Tensor) -> Tensor:
        """Which tokens of ids [windows, positions] are judged: bool, the same shape."""
        import torch

        found = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        found[:, slice(*self.positions)] = True
        return found & ~torch.isin(ids, torch.tensor(sorted(self.special), dtype=ids.dtype, device=ids.device))

    @property
    def words(self) -> str:
        """What is left out, for captions."""
        start, stop = self.positions
        parts = ["special tokens"] if self.special else []
        parts += ["position 0" if start == 1 else f"positions below {start}"] if start else []
        parts += [f"positions from {stop} on"] if stop is not None else []
        return f"{' and '.join(parts)} left out" if parts else "every token"
