"""Direct feature attribution: what each source position and each head adds to a latent that reads attention outputs. Source: METHODS D6.

With the attention A frozen, a head's output at dst is linear in the sources, z_h(dst) = sum_src A_h[dst, src] v_h(src), and so is the
latent's encoder in z = [z_1 .. z_H]:

    DFA(dst, h, src) = A_h[dst, src] (v_h(src) . W_enc[h-block, i]);   its sum over h and src is z(dst) . W_enc[:, i].

Unit: that of the latent's pre-activation, whose biases are left out. No query or key has a part in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def attribution(attention: Tensor, value: Tensor, encoder: Tensor) -> Tensor:
    """[n, H, S]: what each head moves from each source, of attention rows [n, H, S], values [n, G, S, d_v] and encoder columns [n, H d_v].

    Values may have fewer heads than queries (G divides H): head h reads value h // (H / G). In float64. Sum over H: by source position;
    over S: by head.
    """
    n, heads, _ = attention.shape
    groups, width = value.shape[1], value.shape[3]
    if heads % groups or encoder.shape != (n, heads * width):
        raise ValueError(
            f"the encoder must be [{n}, {heads} heads x {width}], in heads that {groups} value heads divide, got {list(encoder.shape)}."
        )
    by_head = encoder.double().view(n, groups, heads // groups, width)
    moved = (value.double() @ by_head.transpose(2, 3)).transpose(2, 3)  # [n, G, heads per group, S]
    return attention.double() * moved.reshape(n, heads, -1)


def head_norms(decoder: Tensor, n_heads: int) -> Tensor:
    """||W_dec[i, h-block]||_2 [F, H] of decoder rows [F, H d_v], float64."""
    return decoder.double().unflatten(1, (n_heads, -1)).norm(dim=2)


def head_shares(norms: Tensor) -> Tensor:
    """w_ih = ||W_dec[i, h-block]|| / sum_h' ||W_dec[i, h'-block]||, [F, H], 0 to 1; rows of zeros where a latent has no direction."""
    import torch

    total = norms.sum(1, keepdim=True)
    return torch.where(total > 0, norms / torch.where(total > 0, total, 1.0), 0.0)
