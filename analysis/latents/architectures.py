"""From settings to sae-lens' training SAE: the architectures it can train, and what each is told.

sae-lens 6.54 can open transcoders but has no class that trains one, so they are not offered here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.spec import UserError

if TYPE_CHECKING:
    from analysis.latents.places import Place

ARCHITECTURES = ("topk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "standard", "gated")
"""As sae-lens calls them; batchtopk and matryoshka_batchtopk are saved as jumprelu, with the threshold they learned."""
TOP_K = ("topk", "batchtopk", "matryoshka_batchtopk")
NESTED = 4
"""Levels of a Matryoshka SAE: an eighth of the latents, a quarter, half, all."""


def n_latents_of(config: Any, width: int) -> int:
    """Latents F asked for at a place of that width. Raises `UserError` where k of them cannot be active."""
    n = config.n_latents or max(1, round(config.expansion * width))
    if config.architecture in TOP_K and config.k > n:
        raise UserError(f"k must be at most the {n:,} latents, got {config.k}; lower k or raise expansion.")
    return n


def training_sae(config: Any, place: Place, n_steps: int, device: str, metadata: Mapping[str, Any]) -> Any:
    """sae-lens' training SAE for a place, its weights drawn with the seed of the config, on ``device``."""
    import torch
    from sae_lens import registry
    from sae_lens.saes.sae import SAEMetadata

    make, make_config = registry.get_sae_training_class(config.architecture)
    n_latents = n_latents_of(config, place.width)
    told = make_config(
        d_in=place.width,
        d_sae=n_latents,
        dtype="float32",
        device=device,
        normalize_activations="expected_average_only_in" if config.normalise else "none",
        reshape_activations="hook_z" if place.kind == "attention_z" and place.hook_name.endswith("_z") else "none",
        metadata=SAEMetadata(**metadata),
        **_own_settings(config, n_latents, round(config.warm_up * n_steps)),
    )
    here = torch.device(device)
    with torch.random.fork_rng([here] if here.type == "cuda" else []):
        torch.manual_seed(config.seed)
        return make(told)


def _own_settings(config: Any, n_latents: int, warm_up_steps: int) -> dict[str, Any]:
    """What only this architecture is told."""
    if config.architecture == "topk":
        return {"k": config.k}
    if config.architecture == "batchtopk":
        return {"k": float(config.k)}
    if config.architecture == "matryoshka_batchtopk":
        widths = sorted({max(1, n_latents >> level) for level in range(NESTED)})
        return {"k": float(config.k), "matryoshka_widths": widths}
    if config.architecture == "jumprelu":
        return {"l0_coefficient": config.l0_coefficient, "l0_warm_up_steps": warm_up_steps}
    return {"l1_coefficient": config.l1_coefficient, "l1_warm_up_steps": warm_up_steps}
