"""The kinds of task: causal, masked and sequence-to-sequence language modelling, classification, divergence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.models.inputs import shifted
from analysis.spec import UserError
from analysis.stats.losses import IGNORED, kl_divergence, relative_error, token_nll
from analysis.tasks.task import OWN, tensor_like

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.tasks.task import Given, TaskBatch

MASKED_SHARE = 0.15
"""Of a window's content tokens; Devlin et al. 2019."""


@dataclass(frozen=True)
class CausalLM:
    """The next token, from those before it."""

    name: str = "causal-lm"
    unit: str = "nats per token"
    words: str = (
        "negative log-likelihood of each token given those before it in its window; the first token of a window and special tokens "
        "are not scored"
    )
    is_divergence: bool = False

    def prepare(self, given: Given) -> tuple[Any, Tensor]:
        """Targets [b, t]: the token after each."""
        answers = given.content()
        targets = answers.new_full(answers.shape, IGNORED)
        targets[:, :-1] = answers[:, 1:]
        return given.inputs, targets

    def score(self, output: Any, batch: TaskBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Per token."""
        return _token_score(output, batch.targets)


@dataclass(frozen=True)
class MaskedLM:
    """Hidden tokens, from all others."""

    mask_token: int
    seed: int
    name: str = "masked-lm"
    unit: str = "nats per masked token"
    words: str = (
        "negative log-likelihood of masked tokens given all others: a seeded 15 % of each window's content tokens, rounded, at least one, "
        "all replaced by the mask token"
    )
    is_divergence: bool = False

    def prepare(self, given: Given) -> tuple[Any, Tensor]:
        """Which tokens are hidden depends on the seed, the window's number and its content positions only."""
        ids, answers = given.ids, given.content()
        hidden = np.zeros(tuple(ids.shape), dtype=bool)
        for row, (window, content) in enumerate(zip(given.windows.tolist(), (answers != IGNORED).cpu().numpy())):
            places = np.flatnonzero(content)
            n = min(len(places), max(1, round(MASKED_SHARE * len(places))))
            hidden[row, np.random.default_rng([self.seed, window]).permutation(places)[:n]] = True
        where = tensor_like(hidden, ids)
        masked = ids.masked_fill(where, self.mask_token)
        targets = answers.masked_fill(~where, IGNORED)
        return ({**given.inputs, "input_ids": masked} if isinstance(given.inputs, Mapping) else masked), targets

    def score(self, output: Any, batch: TaskBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Per masked token."""
        return _token_score(output, batch.targets)


@dataclass(frozen=True)
class Seq2Seq:
    """The target's tokens, from the whole source and the target's tokens before."""

    decoder_start: int
    pad: int = 0
    name: str = "seq2seq"
    unit: str = "nats per token"
    words: str = (
        "negative log-likelihood of each token of the target given the source and the target's tokens before it; "
        "where the data have no target, the source itself is the target, without its special tokens"
    )
    is_divergence: bool = False

    def prepare(self, given: Given) -> tuple[Any, Tensor]:
        """Decoder inputs are the targets, shifted by one behind the start token."""
        ids, own = given.ids, getattr(given.data, "targets", None)
        full = ids.cpu().numpy() if own is None else own[given.positions]
        decoder = tensor_like(shifted(full, self.decoder_start, self.pad), ids)
        targets = given.content() if own is None else tensor_like(full, ids)
        return {**given.inputs, "decoder_input_ids": decoder}, targets

    def score(self, output: Any, batch: TaskBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Per token of the target."""
        return _token_score(output, batch.targets)


@dataclass(frozen=True)
class Classification:
    """The class of an example."""

    name: str = "classification"
    unit: str = "nats per example"
    words: str = "cross-entropy of each example's class"
    is_divergence: bool = False

    def prepare(self, given: Given) -> tuple[Any, Tensor]:
        """Targets [b, 1]."""
        import torch

        labels = given.data.labels
        if labels is None:
            raise ValueError("classification needs labels; choose_task refuses data without.")
        return given.inputs, torch.from_numpy(np.ascontiguousarray(labels[given.positions, None]))

    def score(self, output: Any, batch: TaskBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Per example."""
        logits, targets = answer_of(output), batch.targets
        assert targets is not None
        if logits.ndim != 2:
            raise UserError(
                f"a classifier must give one row of logits for each example, got an output of shape {tuple(logits.shape)}; "
                "set task=divergence."
            )
        if int(targets.max()) >= logits.shape[1]:
            raise UserError(
                f"labels must be from 0 to {logits.shape[1] - 1}, the classes of this model, got {int(targets.max())}; "
                "give data with its classes."
            )
        return _token_score(logits[:, None], targets)


@dataclass(frozen=True)
class OwnLoss:
    """The loss that came with a model: loss(output, batch), one number per example."""

    loss: Callable[[Any, Any], Any] = field(repr=False)
    name: str = OWN
    unit: str = "the loss' own unit per example"
    words: str = "the loss that came with the model, one number per example; which answers are right is not known"
    is_divergence: bool = False

    def prepare(self, given: Given) -> tuple[Any, None]:
        """Inputs as they are: the loss finds the answers in them, or knows them."""
        return given.inputs, None

    def score(self, output: Any, batch: TaskBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Per example; ``right`` is False everywhere, since nobody knows."""
        import torch

        found = self.loss(output, batch.inputs)
        values = found.detach() if isinstance(found, torch.Tensor) else torch.as_tensor(found)
        n = batch.positions.stop - batch.positions.start
        if values.numel() != n or values.ndim not in (1, 2) or len(values) != n:
            raise UserError(
                f"the loss that came with a model must give one number for each of the {n} examples of a batch, got shape "
                f'{tuple(values.shape)}; leave out its mean (reduction="none").'
            )
        loss = values.reshape(n, 1).double()
        return loss, torch.zeros_like(loss, dtype=torch.bool), torch.ones_like(loss, dtype=torch.bool)


@dataclass(frozen=True)
class Divergence:
    """How far an output is from the dense model's own; needs no answers."""

    logits: bool
    """Whether outputs are logits, whose distributions are compared; else they are vectors."""
    name: str = "divergence"
    unit: str = field(default="")
    words: str = field(default="")
    is_divergence: bool = True

    @classmethod
    def of(cls, logits: bool, tokens: bool) -> Divergence:
        """With its unit and words."""
        per = "position" if tokens else "example"
        if logits:
            words = f"KL divergence of the output distribution from the dense model's, per {per}; padding is not scored"
            return cls(True, unit=f"nats per {per} (KL)", words=words)
        words = f"length of the change of the output over the length of the dense model's output, per {per}"
        return cls(False, unit="relative error", words=words)

    def prepare(self, given: Given) -> tuple[Any, None]:
        """Inputs as they are."""
        return given.inputs, None

    def score(self, output: Any, batch: TaskBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Per position of a sequence, else per example; ``right`` says whether the first choice stayed, and is False for vectors."""
        import torch

        if batch.reference is None:
            raise ValueError("a divergence is measured from a reference; give the dense model's output.")
        before, after = answer_of(batch.reference), answer_of(output)
        if before.ndim != 3:  # one vector an example: images, pooled outputs
            before, after = (values.reshape(len(values), 1, -1) for values in (before, after))
        kept = torch.ones(before.shape[:2], dtype=torch.bool, device=before.device)
        names = ("decoder_attention_mask", "attention_mask")
        masks = [batch.inputs.get(name) for name in names] if isinstance(batch.inputs, Mapping) else []
        for mask in masks:
            if mask is not None and mask.shape == kept.shape:
                kept = mask.bool().to(kept.device)
                break
        if self.logits:
            loss, same = kl_divergence(before, after, kept)
            return loss, same, kept
        loss, has = relative_error(before, after, kept)
        return loss, torch.zeros_like(has), has


def answer_of(output: Any) -> Tensor:
    """The tensor an output is about: logits, else the last hidden state, else the first tensor."""
    import torch

    for name in ("logits", "last_hidden_state"):
        if isinstance(getattr(output, name, None), torch.Tensor):
            return getattr(output, name)
    if isinstance(output, torch.Tensor):
        return output
    values = list(output.values()) if isinstance(output, Mapping) else list(output) if isinstance(output, tuple | list) else []
    found = next((value for value in values if isinstance(value, torch.Tensor) and value.is_floating_point()), None)
    if found is None:
        raise UserError(
            f"the model must give a tensor to be scored, got a {type(output).__name__}; use a model that returns logits or vectors."
        )
    return found


def _token_score(output: Any, targets: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    logits = answer_of(output)
    assert targets is not None
    targets = targets.to(logits.device)
    if logits.shape[:-1] != targets.shape:
        raise UserError(
            f"the model must give logits for each of the {tuple(targets.shape)} positions, got an output of shape {tuple(logits.shape)}; "
            "set task=divergence."
        )
    loss, right = token_nll(logits, targets)
    return loss, right, targets != IGNORED
