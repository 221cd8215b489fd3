"""A tiny batch to run a model on when only its weights are asked about: made from the model itself, never from data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.models.pieces import embedding_module
from analysis.models.text import model_inputs
from analysis.spec import IncompatibleSubject

if TYPE_CHECKING:
    from analysis.models.subject import Subject

N_EXAMPLES, LENGTH = 2, 8
IMAGE_SIZE, CHANNELS = 64, 3
"""Used where the config of a model for images states none."""


def probe_batch(subject: Subject) -> Any:
    """Two seeded examples: 8 token ids each, or an image of the size the config states.

    A module without a config gets the first batch of its data, which changes which sites run but no weight. Raises
    `IncompatibleSubject` where neither tells what the model reads.
    """
    import torch

    model = subject.model
    config = getattr(model, "config", None)
    reads = getattr(model, "main_input_name", None) if hasattr(config, "to_dict") else None
    made = torch.Generator().manual_seed(0)
    if reads == "input_ids" and embedding_module(model, "input") is not None:
        return _tokens(subject, made)
    if reads == "pixel_values":
        size = getattr(config, "image_size", None) or IMAGE_SIZE
        height, width = size if isinstance(size, list | tuple) else (size, size)
        shape = (N_EXAMPLES, getattr(config, "num_channels", None) or CHANNELS, height, width)
        return {reads: torch.randn(shape, generator=made).to(subject.device, next(model.parameters()).dtype)}
    if subject.data is not None:
        batch, _ = next(iter(subject.data.batches(N_EXAMPLES, subject.device)))
        return batch
    raise IncompatibleSubject(
        f"{subject.label} must say what it reads (token ids or images) or come with data, got neither; give one batch of inputs."
    )


def _tokens(subject: Subject, made: Any) -> dict[str, Any]:
    import torch

    embedding = embedding_module(subject.model, "input")
    assert embedding is not None
    ids = torch.randint(embedding.weight.shape[0], (N_EXAMPLES, LENGTH), generator=made).to(subject.device)
    return {name: torch.ones_like(ids) if "mask" in name else ids for name in model_inputs(subject.task)}
