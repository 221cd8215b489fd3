"""A small attention layer whose every number can be written out, and what tests of the methods share."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from analysis.capture.running import observable
from analysis.interventions.calibration import Calibration

T4 = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.2, 0.3, 0.4]])
N, HEADS, WIDTH = 24, 2, 6


class Tiny(nn.Module):
    """One attention layer between an embedding and a read-out; two heads."""

    def __init__(self, causal: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.causal = causal
        self.table = nn.Embedding(40, HEADS * WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(HEADS * WIDTH, HEADS * WIDTH, bias=False) for _ in range(4))
        with torch.no_grad():
            self.query.weight.mul_(3.0)

    def parts(self, input_ids):
        """Queries, keys and values [batch, heads, n, width]."""
        x = self.table(input_ids)
        return tuple(layer(x).unflatten(-1, (HEADS, WIDTH)).transpose(1, 2) for layer in (self.query, self.key, self.value))

    def forward(self, input_ids, attention_mask=None):  # noqa: ARG002 - says which tokens are real
        q, k, v = self.parts(input_ids)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=self.causal).transpose(1, 2).flatten(2))


def ids(n: int = N, seed: int = 1, rows: int = 2) -> torch.Tensor:
    """Token ids [rows, n]."""
    return torch.randint(0, 40, (rows, n), generator=torch.Generator().manual_seed(seed))


def calibrated(*batches) -> Calibration:
    """A calibration that only keeps its batches."""
    return Calibration({}, {}, frozenset({"values"}), batches=batches)


def subject(model) -> SimpleNamespace:
    """What methods are given."""
    return SimpleNamespace(model=model)


def run(model, batch):
    """The model's answer, had as measurements have it."""
    with observable(model):
        out = model(**batch)
    return getattr(out, "logits", getattr(out, "last_hidden_state", out))


def written_out(model, input_ids, masks):
    """The tiny layer's answer with a softmax over the pairs of ``masks`` bool [batch, heads, n, n], one row at a time."""
    q, k, v = model.parts(input_ids)
    given = torch.zeros_like(q)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for r in range(q.shape[2]):
                at = [c for c in range(q.shape[2]) if masks[b, h, r, c]]
                logits = torch.stack([q[b, h, r] @ k[b, h, c] for c in at]) / WIDTH**0.5
                given[b, h, r] = sum(w * v[b, h, c] for w, c in zip(logits.softmax(0), at, strict=True))
    return model.out(given.transpose(1, 2).flatten(2)).detach()


def dense_weights(model, input_ids):
    """[batch, heads, n, n] of the dense model."""
    q, k, _ = model.parts(input_ids)
    logits = q @ k.transpose(-1, -2) / WIDTH**0.5
    if model.causal:
        logits = logits.masked_fill(~torch.ones(logits.shape[-2:], dtype=torch.bool).tril(), -torch.inf)
    return logits.softmax(-1).detach()


def answer_at(method, model, batch, level, *calibration):
    """The model's answer at a level, and the held model's cost there."""
    with method.on(subject(model), calibrated(*(calibration or (batch,)))) as held:
        held.at(level)
        out = run(model, batch)
        return out, held.cost(level)
