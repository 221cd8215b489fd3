"""Interventions on activations, one file each; `METHODS` is the table of contents."""

from __future__ import annotations

from analysis.interventions.activations.base import ActivationMethod
from analysis.interventions.activations.cats import Cats
from analysis.interventions.activations.cett import Cett
from analysis.interventions.activations.channels import ConvChannels
from analysis.interventions.activations.chess import Chess
from analysis.interventions.activations.contextual import ContextualOracle, ContextualPrevious
from analysis.interventions.activations.dead import DeadNeurons
from analysis.interventions.activations.delta import Delta
from analysis.interventions.activations.griffin import Griffin
from analysis.interventions.activations.hidden import HiddenDimensions
from analysis.interventions.activations.predicted import ContextualPredicted
from analysis.interventions.activations.relu import ReluSubstitution
from analysis.interventions.activations.statistical import StatisticalTopK
from analysis.interventions.activations.teal import Teal
from analysis.interventions.activations.threshold import Threshold
from analysis.interventions.activations.topk import TopK
from analysis.interventions.entry import Entry

LINES: tuple[tuple[type[ActivationMethod], str, bool], ...] = (
    (Threshold, "Zero the FFN activations that are below a threshold of their layer.", True),
    (TopK, "Keep the largest FFN activations of each token.", True),
    (Cats, "Skip the FFN neurons whose gate is below a threshold of its layer.", True),
    (Chess, "Skip the FFN neurons whose gate is below a threshold of its channel.", True),
    (Teal, "Zero the inputs of every matrix that are below a threshold of that matrix.", True),
    (ReluSubstitution, "Put ReLU in place of the FFNs' activation functions.", False),
    (StatisticalTopK, "Keep the FFN pre-activations that are above a normal quantile of their token.", False),
    (Cett, "Zero the FFN activations that add little to the output, with one relative error for all layers.", False),
    (ContextualOracle, "Keep the FFN neurons that add most to each token.", False),
    (ContextualPrevious, "Run only the FFN neurons that added most to the token before.", False),
    (ContextualPredicted, "Run only the FFN neurons that a low-rank predictor names from what the FFN reads.", False),
    (Griffin, "Behind a prompt, run only the FFN neurons that the prompt used most.", False),
    (DeadNeurons, "Remove the FFN neurons that gave 0 on every token of the calibration split.", False),
    (HiddenDimensions, "Read only the hidden dimensions that are large everywhere, and those that are large at the token.", False),
    (Delta, "Pass on only the inputs of matrices that changed since they were last passed on.", False),
    (ConvChannels, "Keep the channels of each image that make up a share of its heat-map mass.", False),
)
"""Each method, one sentence on it, and whether it is measured where none is named."""

METHODS: tuple[Entry, ...] = (
    *(
        Entry(made.name, line, "activations", made.runs_on, made, made().sources, made.needs_causal, default)
        for made, line, default in LINES
    ),
    Entry(
        "teal-greedy",
        "Zero small inputs of every matrix, in each block most where its output suffers least.",
        "activations",
        Teal.runs_on,
        lambda seed: Teal(seed, greedy=True),
        Teal().sources,
        default=False,
    ),
)
"""In the order they are offered."""
