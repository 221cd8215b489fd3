"""Small seeded models of every family the capture must understand, each with a batch; nothing is downloaded.

Each function returns ``(model, batch)``. Token batches have 2 sequences, the second one padded.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Made = tuple[nn.Module, Any]


def tokens(length: int = 7, padding: int = 2, vocabulary: int = 60, **more: Any) -> dict[str, Any]:
    """A batch of two sequences; the last ``padding`` positions of the second are padding."""
    made = torch.Generator().manual_seed(5)
    mask = torch.ones(2, length, dtype=torch.long)
    mask[1, length - padding :] = 0
    ids = torch.randint(3, vocabulary, (2, length), generator=made)
    return {"input_ids": ids, "attention_mask": mask, **more}


def llama() -> Made:
    """Gated SiLU units, grouped-query attention, RMSNorm."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    return LlamaForCausalLM(config).eval(), tokens()


def phi3() -> Made:
    """Gate and up in one fused matrix."""
    from transformers import Phi3Config, Phi3ForCausalLM

    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        pad_token_id=0,
    )  # fmt: skip
    return Phi3ForCausalLM(config).eval(), tokens()


def gpt2() -> Made:
    """Matrices stored [in, out], GELU written out with tanh."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=60, n_positions=16, n_embd=16, n_layer=2, n_head=2)).eval(), tokens()


def bert() -> Made:
    """Post-norm encoder with GELU; its language-model head has an activation that a norm follows."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    return BertForMaskedLM(config).eval(), tokens()


def t5(gated: bool = False) -> Made:
    """Encoder and decoder of equal length; ReLU, or gated GELU with tanh."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=60, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu" if gated else "relu",
        decoder_start_token_id=0,
    )  # fmt: skip
    source, target = tokens(), tokens(padding=3)
    decoder = {"decoder_input_ids": target["input_ids"], "decoder_attention_mask": target["attention_mask"]}
    return T5ForConditionalGeneration(config).eval(), {**source, **decoder}


def mixtral(experts: int = 4, implementation: str | None = None) -> Made:
    """Experts as stacks of matrices, two of them a token."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        num_local_experts=experts, num_experts_per_tok=2,
    )  # fmt: skip
    model = MixtralForCausalLM(config).eval()
    if implementation is not None:
        model.set_experts_implementation(implementation)
    return model, tokens()


def vit() -> Made:
    """Patches instead of tokens."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4, num_labels=3
    )
    return ViTForImageClassification(config).eval(), {"pixel_values": torch.randn(2, 3, 8, 8)}


def resnet() -> Made:
    """Convolutions, batch norm, ReLU before and after residual additions."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[2, 1], layer_type="basic", num_labels=3)
    return ResNetForImageClassification(config).eval(), {"pixel_values": torch.randn(2, 3, 16, 16)}


def encoder() -> Made:
    """torch's own encoder, whose fast path hides every operator and zeroes padded rows."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    return nn.TransformerEncoder(layer, 2).eval(), {"src": torch.randn(2, 5, 16), "src_key_padding_mask": padding}


class Tagger(nn.Module):
    """An LSTM and a linear head over token ids."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 8)
        self.rnn = nn.LSTM(8, 10, batch_first=True, bidirectional=True)
        self.head = nn.Linear(20, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.rnn(self.embed(input_ids))[0])


def lstm() -> Made:
    """One opaque recurrent call."""
    torch.manual_seed(0)
    return Tagger().eval(), tokens()


class OddMLP(nn.Module):
    """A gated FFN and a plain one, functional throughout, with parameters of its own in both layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.w_gate = nn.Parameter(torch.randn(6, 9) / 3)
        self.w_up = nn.Parameter(torch.randn(6, 9) / 3)
        self.w_down = nn.Parameter(torch.randn(9, 6) / 3)
        self.v_in = nn.Parameter(torch.randn(11, 6) / 3)
        self.v_out = nn.Parameter(torch.randn(6, 11) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.einsum("bpi,if->bpf", x, self.w_gate)
        up = x @ self.w_up
        x = x + torch.einsum("bpf,fo->bpo", up * (gate * torch.sigmoid(gate)), self.w_down)
        hidden = F.linear(x, self.v_in).clamp(min=0) ** 2
        return F.layer_norm(x + F.linear(hidden.transpose(0, 1), self.v_out).transpose(0, 1), (6,))


def odd() -> Made:
    """Somebody's own class."""
    torch.manual_seed(0)
    return OddMLP().eval(), (torch.randn(2, 5, 6),)


class Linear(nn.Module):
    """No activation anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x))


def linear() -> Made:
    """A model without neurons."""
    torch.manual_seed(0)
    return Linear().eval(), (torch.randn(3, 4),)


ZOO = {
    "llama": llama, "phi3": phi3, "gpt2": gpt2, "bert": bert, "t5": t5, "t5_gated": lambda: t5(gated=True), "mixtral": mixtral,
    "mixtral_eager": lambda: mixtral(implementation="eager"), "vit": vit, "resnet": resnet, "encoder": encoder, "lstm": lstm, "odd": odd,
    "linear": linear,
}  # fmt: skip
