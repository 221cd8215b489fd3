"""Small SAEs for tests, made with sae-lens' own classes and saved as it saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

D, F = 6, 12
SHAPES: dict[str, dict[str, Any]] = {
    "standard": {},
    "gated": {},
    "topk": {"k": 3},
    "jumprelu": {},
    "transcoder": {"d_out": 4, "apply_b_dec_to_input": False},
    "skip_transcoder": {"d_out": 4, "apply_b_dec_to_input": False},
    "jumprelu_transcoder": {"d_out": 4, "apply_b_dec_to_input": False},
    "jumprelu_skip_transcoder": {"d_out": 4, "apply_b_dec_to_input": False},
}


def made(architecture: str, *, d_in: int = D, d_sae: int = F, metadata: dict[str, Any] | None = None, **settings: Any) -> Any:
    """An inference SAE with seeded weights, thresholds above 0."""
    from sae_lens.registry import get_sae_class
    from sae_lens.saes.sae import SAEMetadata

    kind, config = get_sae_class(architecture)
    told = {**SHAPES[architecture], **settings}
    sae = kind(config(d_in=d_in, d_sae=d_sae, metadata=SAEMetadata(**(metadata or {})), **told))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in sae.named_parameters():
            value.copy_(torch.randn(value.shape, generator=draw) / 2)
            if "threshold" in name:
                value.abs_()
    return sae.eval()


def saved(folder: Path, architecture: str = "standard", **more: Any) -> Path:
    """The folder of such an SAE."""
    made(architecture, **more).save_model(folder)
    return folder


def perfect(d: int, **settings: Any) -> Any:
    """A standard SAE that gives back what it is given: one latent for each direction and its opposite."""
    sae = made("standard", d_in=d, d_sae=2 * d, **settings)
    with torch.no_grad():
        eye = torch.eye(d)
        sae.W_enc.copy_(torch.cat([eye, -eye], dim=1))
        sae.W_dec.copy_(torch.cat([eye, -eye], dim=0))
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return sae
