"""Where the methods on tokens come from; light, since the catalogue reads it."""

from __future__ import annotations

from analysis.spec import Source

POWER_BERT = Source(
    "PoWER-BERT: Accelerating BERT Inference via Progressive Word-vector Elimination", "Goyal et al., ICML 2020, arXiv 2001.08950", "K"
)
EVIT = Source(
    "Not All Patches are What You Need: Expediting Vision Transformers via Token Reorganizations",
    "Liang et al., ICLR 2022, arXiv 2202.07800",
    "K",
)
ZERO_TPRUNE = Source(
    "Zero-TPrune: Zero-Shot Token Pruning through Leveraging of the Attention Graph in Pre-Trained Transformers",
    "Wang et al., CVPR 2024, arXiv 2305.17328",
    "3",
)
TOME = Source("Token Merging: Your ViT But Faster", "Bolya et al., ICLR 2023, arXiv 2210.09461", "K")
RANDOM = Source("Tokens removed at random, as what any choice must beat", "this project's operational definition", "O")
