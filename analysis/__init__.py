"""The registry: every analysis, in the order people meet them. This list is the table of contents.

Analyses that live elsewhere join it through SPARSESCOPE_EXTRA_ANALYSES=module:NAME[,module:NAME...].
"""

from __future__ import annotations

import importlib
import os

from analysis import waiting as waiting
from analysis.attention.head_examples import HEAD_EXAMPLES
from analysis.attention.head_patterns import HEAD_PATTERNS
from analysis.attention.head_sparsity import HEAD_SPARSITY
from analysis.attention.head_weights import HEAD_WEIGHTS
from analysis.latents.coding_rates import CODING_RATES
from analysis.latents.latent_attribution import LATENT_ATTRIBUTION
from analysis.latents.latent_examples import LATENT_EXAMPLES
from analysis.latents.sae_quality import SAE_QUALITY
from analysis.latents.sae_train import SAE_TRAIN
from analysis.neurons.neuron_activity import NEURON_ACTIVITY
from analysis.neurons.neuron_correlation import NEURON_CORRELATION
from analysis.neurons.neuron_weights import NEURON_WEIGHTS
from analysis.quality.prompt_effect import PROMPT_EFFECT
from analysis.quality.task_loss import TASK_LOSS
from analysis.sensitivity.allocation import ALLOCATION
from analysis.sensitivity.essential_sparsity import ESSENTIAL_SPARSITY
from analysis.sensitivity.matrix_sensitivity import MATRIX_SENSITIVITY
from analysis.sensitivity.measured_gain import MEASURED_GAIN
from analysis.sensitivity.plane import SPARSITY_PLANE
from analysis.spec import Analysis, UnknownName
from analysis.weights.checkpoint_diff import CHECKPOINT_DIFF
from analysis.weights.checkpoint_timeline import CHECKPOINT_TIMELINE
from analysis.weights.layer_ratios import LAYER_RATIOS
from analysis.weights.weight_sparsity import WEIGHT_SPARSITY
from analysis.weights.weight_spectrum import WEIGHT_SPECTRUM

EXTRA = "SPARSESCOPE_EXTRA_ANALYSES"


def _extra() -> tuple[Analysis, ...]:
    """The analyses named in the environment; a name that cannot be had stops the program with Python's own words."""
    names = [name.strip() for name in os.environ.get(EXTRA, "").split(",") if name.strip()]
    pairs = [name.partition(":")[::2] for name in names]
    return tuple(getattr(importlib.import_module(module), attribute) for module, attribute in pairs)


ANALYSES: tuple[Analysis, ...] = (
    WEIGHT_SPARSITY,
    WEIGHT_SPECTRUM,
    LAYER_RATIOS,
    CHECKPOINT_DIFF,
    CHECKPOINT_TIMELINE,
    NEURON_ACTIVITY,
    NEURON_WEIGHTS,
    NEURON_CORRELATION,
    HEAD_SPARSITY,
    HEAD_PATTERNS,
    HEAD_EXAMPLES,
    HEAD_WEIGHTS,
    SAE_TRAIN,
    SAE_QUALITY,
    LATENT_EXAMPLES,
    LATENT_ATTRIBUTION,
    CODING_RATES,
    TASK_LOSS,
    PROMPT_EFFECT,
    ESSENTIAL_SPARSITY,
    MATRIX_SENSITIVITY,
    ALLOCATION,
    SPARSITY_PLANE,
    MEASURED_GAIN,
    *_extra(),
)


def find_analysis(slug: str) -> Analysis:
    """The registered analysis of that slug."""
    for analysis in ANALYSES:
        if analysis.slug == slug:
            return analysis
    raise UnknownName(f"there is no analysis {slug!r}; the analyses are {', '.join(a.slug for a in ANALYSES)}.")
