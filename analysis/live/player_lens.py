"""The logit lens on one text: what the model would answer if its blocks ended after each layer. Part of the worker.

1. `Residuals` keeps what each block gives during a pass, for the last tokens of the text.
2. `Lens.answers` runs the model's own end on it: every block passes on what it is given, the last one gives what was kept. So the final
   norm, the unembedding and whatever else the model does behind its blocks (scaling, capping of logits) are its own, bit by bit.
3. The last row must be the model's own answer; where it is not, something other than these blocks stands in between, and that is said.

Source: nostalgebraist 2020, Interpreting GPT: the logit lens. Early layers are not meaningful.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from analysis.live.playing import LENS_TOKENS

if TYPE_CHECKING:
    from torch import Tensor, nn

EMBEDDING = "embedding"
ROWS_AT_ONCE = 256
"""Tokens times layers that go through the end of the model at once; of a vocabulary of 50,000 these are 50 MB of logits."""
_SAME = 1e-3
"""Largest difference of logits, relative to the largest logit, up to which two answers are the same."""


class Residuals:
    """Keeps the stream before the first block and behind each, for the last `LENS_TOKENS` tokens; a context for one pass."""

    def __init__(self, model: nn.Module, blocks: Sequence[str]) -> None:
        self._model, self._blocks = model, tuple(blocks)
        self.streams: list[Tensor] = []
        """[1, tokens, width] each: before the first block, then behind every block."""
        self.form: tuple[Any, ...] | None = None
        """What the last block returned beside the stream; None where it returns the stream alone."""

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks are gone afterwards, also on error."""
        from analysis.capture.running import hooked

        blocks = [self._model.get_submodule(path) for path in self._blocks]
        with hooked(block.register_forward_hook(self._hook(i), with_kwargs=True) for i, block in enumerate(blocks)):
            yield

    def _hook(self, i: int) -> Any:
        from analysis.interventions.structure.base import stream_of

        def hook(_: Any, args: Any, kwargs: Any, output: Any) -> None:
            if not i:
                self.streams.append(stream_of(args, kwargs)[:, -LENS_TOKENS:].detach().clone())
            stream = output[0] if isinstance(output, tuple) else output
            self.form = tuple(output[1:]) if isinstance(output, tuple) else None
            self.streams.append(stream[:, -LENS_TOKENS:].detach().clone())

        return hook


class Lens:
    """The end of a model behind its blocks."""

    def __init__(self, model: nn.Module, blocks: Sequence[str]) -> None:
        self._model, self._blocks = model, tuple(blocks)

    @property
    def names(self) -> list[str]:
        """Of the rows: the embedding, then each block by its number."""
        return [EMBEDDING, *(str(i) for i in range(len(self._blocks)))]

    def logits(self, batch: Any, residuals: Residuals) -> Iterator[Tensor]:
        """[tokens, vocabulary] of each row, in order. The model must be dense again.

        Several rows go through the model's end at once, as if they were examples: for a short text reading the unembedding is what takes
        time. The last row goes alone, as it did in the model, so that it is the model's answer bit for bit.
        """
        import torch

        from analysis.capture.running import observable, run
        from analysis.tasks.objectives import answer_of

        given: list[Tensor] = []
        *early, last = residuals.streams
        at_once = max(1, ROWS_AT_ONCE // last.shape[1])
        with observable(self._model), self._passing(given, residuals.form):
            for start in range(0, len(early), at_once):
                given[:] = [torch.cat(early[start : start + at_once])]
                yield from answer_of(run(self._model, batch))[:, -last.shape[1] :]
            given[:] = [last]
            yield answer_of(run(self._model, batch))[0, -last.shape[1] :]

    @contextlib.contextmanager
    def _passing(self, given: list[Tensor], form: tuple[Any, ...] | None) -> Iterator[None]:
        """Blocks that compute nothing: each returns its input, the last one what is given."""
        from analysis.capture.running import forward_replaced
        from analysis.interventions.structure.base import stream_of

        def passing(last: bool) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                stream = given[0] if last else stream_of(args, kwargs)
                return stream if form is None else (stream, *form)

            return forward

        with contextlib.ExitStack() as undo:
            for path in self._blocks:
                undo.enter_context(forward_replaced(self._model.get_submodule(path), passing(path == self._blocks[-1])))
            yield


def is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two answers [tokens, vocabulary] are the same up to rounding."""
    if one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= _SAME * other.abs().max().clamp(min=1e-6))


def why_no_lens(subject: Any, blocks: Sequence[str]) -> str | None:
    """None where the model has a lens, else the sentence why not."""
    from analysis.models.pieces import embedding_module

    if subject.task != "causal-lm":
        return "The logit lens is for models that predict the next token; this one does not."
    if embedding_module(subject.model, "output") is None:
        return "The logit lens reads layers through the unembedding, and this model names none."
    return None if blocks else "The logit lens reads the stream behind each block, and this model has no repeated blocks on one stream."
