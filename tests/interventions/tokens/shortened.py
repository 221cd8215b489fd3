"""Models of four blocks and five patches or more, and the slow way: blocks run on sequences that really are shorter."""

from __future__ import annotations

import torch
from torch import nn

from tests.zoo import tokens

LEVEL, BLOCKS = 0.7, 4


def bert():
    """Four blocks; the second example ends in two positions of padding."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=BLOCKS, num_attention_heads=2)
    return sharpened(BertForMaskedLM(config)), tokens(length=13, padding=4)


def vit():
    """Four blocks, sixteen patches."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=BLOCKS, num_attention_heads=2, image_size=16, patch_size=4, num_labels=3
    )
    return sharpened(ViTForImageClassification(config)), {"pixel_values": torch.randn(2, 3, 16, 16)}


MODELS = {"bert": bert, "vit": vit}


def sharpened(model: nn.Module) -> nn.Module:
    """With weights large enough for attention to differ from token to token."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(12.0)
    return model.eval()


def parts(model):
    """Embedding, blocks, what reads the last block's rows [batch, n, width], and of a block: what attention is given, queries, keys."""
    if hasattr(model, "bert"):
        layers = model.bert.encoder.layer
        return (
            lambda batch: model.bert.embeddings(batch["input_ids"]),
            layers,
            model.cls,
            lambda layer, x: _projected(x, layer.attention.self.query, layer.attention.self.key),
        )
    return (
        lambda batch: model.vit.embeddings(batch["pixel_values"]),
        model.vit.layers,
        lambda x: model.classifier(model.vit.layernorm(x)[:, 0]),
        lambda layer, x: _projected(layer.layernorm_before(x), layer.attention.q_proj, layer.attention.k_proj),
    )


def _projected(x, query, key):
    q, k = (matrix(x)[0].unflatten(-1, (2, 8)).transpose(0, 1) for matrix in (query, key))
    return (q @ k.transpose(1, 2) / 8**0.5).softmax(-1), k


def targets(n: int, level: float = LEVEL) -> list[int]:
    """How many are gone after each block but the last."""
    return [int(level * (n - 1) * (k + 1) / (BLOCKS - 1) + 1e-9) for k in range(BLOCKS - 1)]


@torch.no_grad()
def pruned(model, batch, score, level: float = LEVEL):
    """Answers of each example's real tokens where those of lowest ``score(weights, keys, left, block)`` really leave, and rows by block."""
    embed, layers, read, look = parts(model)
    answers, rows, pairs = [], [], []
    for example in range(2):
        real = batch["attention_mask"][example].bool() if "attention_mask" in batch else None
        x = embed({name: value[example : example + 1] for name, value in batch.items()})
        x = x if real is None else x[:, real]
        n, left = x.shape[1], list(range(x.shape[1]))
        for index, layer in enumerate(layers):
            rows.append(len(left) / n)
            pairs.append((len(left) ** 2, n**2))
            weights, keys = look(layer, x[:, left])
            made = layer(x[:, left])
            x = x.clone()
            x[:, left] = made[0] if isinstance(made, tuple) else made
            if index < BLOCKS - 1:
                worth = score(weights, keys, left, index)
                gone = sorted(range(1, len(left)), key=lambda i, w=worth: float(w[i]))[: targets(n, level)[index] - (n - len(left))]
                left = [token for i, token in enumerate(left) if i not in gone]
        answers.append(read(x)[0])
    return answers, left, rows, pairs
