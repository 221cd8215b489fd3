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


def opt() -> Made:
    """ReLU units behind a layer norm, learned positions."""
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=60, hidden_size=16, word_embed_proj_dim=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return OPTForCausalLM(config).eval(), tokens()


def gpt_neox() -> Made:
    """Attention and FFN side by side, both added to one stream; query, key and value in one matrix."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=32,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config).eval(), tokens()


def albert() -> Made:
    """One layer's weights, run twice."""
    from transformers import AlbertConfig, AlbertForMaskedLM

    torch.manual_seed(0)
    config = AlbertConfig(
        vocab_size=60, embedding_size=8, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=32,
    )  # fmt: skip
    return AlbertForMaskedLM(config).eval(), tokens()


def qwen2_moe() -> Made:
    """Experts as stacks of matrices, and beside them one gated FFN that every token goes through."""
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=60, hidden_size=16, intermediate_size=24, moe_intermediate_size=12, shared_expert_intermediate_size=20,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return Qwen2MoeForCausalLM(config).eval(), tokens()


def switch(experts: int = 4) -> Made:
    """Encoder and decoder whose second layer has experts that are modules of their own, one of them a token."""
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

    torch.manual_seed(0)
    config = SwitchTransformersConfig(
        vocab_size=60, d_model=16, d_kv=8, d_ff=24, expert_capacity=64, num_layers=2, num_decoder_layers=2, num_heads=2,
        num_sparse_encoder_layers=1, num_sparse_decoder_layers=1, num_experts=experts, decoder_start_token_id=0,
    )  # fmt: skip
    source, target = tokens(), tokens(padding=3)
    decoder = {"decoder_input_ids": target["input_ids"], "decoder_attention_mask": target["attention_mask"]}
    return SwitchTransformersForConditionalGeneration(config).eval(), {**source, **decoder}


def mamba() -> Made:
    """A state-space model: a convolution over time, a recurrence written in tensor operations, and a gate."""
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=60, hidden_size=16, state_size=4, num_hidden_layers=2, expand=2, time_step_rank=3, conv_kernel=4, use_cache=False,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return MambaForCausalLM(config).eval(), tokens()


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


def encoder(norm_first: bool = False) -> Made:
    """torch's own encoder, whose fast path hides every operator and zeroes padded rows."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, norm_first=norm_first)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first).eval(), {
        "src": torch.randn(2, 5, 16),
        "src_key_padding_mask": padding,
    }


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


class Packed(nn.Module):
    """A recurrent layer that is given packed sequences, shorter ones without their padding."""

    def __init__(self, kind: type[nn.RNNBase], bidirectional: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 8)
        self.rnn = kind(8, 10, batch_first=True, bidirectional=bidirectional, num_layers=2)
        self.head = nn.Linear(20 if bidirectional else 10, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        lengths = attention_mask.sum(1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(input_ids), lengths, batch_first=True, enforce_sorted=False)
        return self.head(nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])


def gru() -> Made:
    """One opaque recurrent call over packed sequences."""
    torch.manual_seed(0)
    return Packed(nn.GRU, bidirectional=True).eval(), tokens()


def mlp() -> Made:
    """Two hidden layers on vectors."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3)).eval(), (torch.randn(5, 6),)


class Expert(nn.Module):
    """A gated FFN of its own."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(width, inner, False), nn.Linear(inner, width, False), nn.Linear(width, inner, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class ListedExperts(nn.Module):
    """Token ids through blocks whose FFN is a list of experts, one a token; the router never chooses the last expert."""

    def __init__(self, experts: int = 3) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(60, 8), nn.Linear(8, 60)
        self.blocks = nn.ModuleList(nn.ModuleDict({"norm": nn.LayerNorm(8), "router": nn.Linear(8, experts)}) for _ in range(2))
        for block in self.blocks:
            block["experts"] = nn.ModuleList(Expert(8, 12) for _ in range(experts))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            flat = block["norm"](x).reshape(-1, 8)
            chosen = block["router"](flat)[:, :-1].argmax(1)
            out = torch.zeros_like(flat)
            for i, expert in enumerate(block["experts"]):
                rows = (chosen == i).nonzero().squeeze(1)
                if len(rows):
                    out[rows] = expert(flat[rows])
            x = x + out.view_as(x)
        return self.head(x)


def listed_experts() -> Made:
    """Experts in a ModuleList, one of which is never visited."""
    torch.manual_seed(0)
    return ListedExperts().eval(), tokens()


class PositionsFirst(nn.Module):
    """Token ids through torch's encoder laid out [positions, batch], as its default is."""

    def __init__(self, norm_first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 24, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.encoder(self.embed(input_ids).transpose(0, 1), src_key_padding_mask=attention_mask == 0).transpose(0, 1)


def positions_first() -> Made:
    """Rows that are not in the batch's order."""
    torch.manual_seed(0)
    return PositionsFirst().eval(), tokens()


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
    "llama": llama, "phi3": phi3, "gpt2": gpt2, "opt": opt, "gpt_neox": gpt_neox, "bert": bert, "albert": albert, "t5": t5,
    "t5_gated": lambda: t5(gated=True), "mixtral": mixtral, "mixtral_eager": lambda: mixtral(implementation="eager"),
    "qwen2_moe": qwen2_moe, "switch": switch, "listed_experts": listed_experts, "mamba": mamba, "vit": vit, "resnet": resnet,
    "encoder": encoder, "encoder_norm_first": lambda: encoder(norm_first=True), "positions_first": positions_first, "mlp": mlp,
    "lstm": lstm, "gru": gru, "odd": odd, "linear": linear,
}  # fmt: skip
