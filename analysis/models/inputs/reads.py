"""What a model reads and what its head tells apart, known from its config and its modules without any weight."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TOKENS, PIXELS = "input_ids", "pixel_values"
IMAGE_SIZE, CHANNELS = 224, 3
"""Used where the config of a model for images states none."""


@dataclass(frozen=True)
class Reads:
    """What a model reads. Everything is empty or None where it is not known."""

    name: str | None = None
    """The argument: ``input_ids``, ``pixel_values``; None for a module without a config, which is given one tensor."""
    shape: tuple[int, ...] | None = None
    """Of one example: (channels, height, width) of an image, (features,) of a vector; a height of 0 is any."""
    vocabulary: int | None = None
    """How many tokens there are."""
    n_classes: int | None = None
    """Of a classifier; None for every other head."""
    classes: dict[str, int] = field(default_factory=dict)
    """Names of a classifier's classes, in lower case; empty where the config names none."""
    several: bool = False
    """Whether one example may have several classes at once."""
    pad: int | None = None
    decoder_start: int | None = None
    folder: Path | None = None
    """Where the settings of its image processor may be."""

    @property
    def plain(self) -> bool:
        """Whether the module has no config that would say what it is for."""
        return self.name is None

    @classmethod
    def of(cls, module: torch.nn.Module, config: Any, folder: Path | None = None) -> Reads:
        """From a module, which may be without values, and its config, which may be None."""
        if config is None:
            return cls(shape=_first_shape(module))
        name = getattr(module, "main_input_name", None)
        vocabulary = getattr(config, "vocab_size", None)
        n_classes = getattr(config, "num_labels", None) if is_classifier(type(module).__name__) else None
        named = getattr(config, "id2label", None) or {}
        return cls(
            name=name,
            shape=_image_shape(config) if name == PIXELS else None,
            vocabulary=vocabulary if isinstance(vocabulary, int) else None,
            n_classes=n_classes,
            classes=_names(named) if n_classes else {},
            several=getattr(config, "problem_type", None) == "multi_label_classification",
            pad=getattr(config, "pad_token_id", None),
            decoder_start=getattr(config, "decoder_start_token_id", None),
            folder=folder,
        )


def is_classifier(architecture: str) -> bool:
    """Whether a model of that class gives each example one class."""
    from transformers.models.auto import modeling_auto as auto

    tables = (auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)
    known = {name for table in tables for names in table.values() for name in ([names] if isinstance(names, str) else names)}
    return architecture in known


def _names(id2label: dict[Any, str]) -> dict[str, int]:
    """Class names to ids, synonyms after commas too; empty where they are only ``LABEL_0``, ``LABEL_1``, ..."""
    if all(str(label) == f"LABEL_{i}" for i, label in id2label.items()):
        return {}
    found: dict[str, int] = {}
    for i, label in id2label.items():
        for name in (str(label), *str(label).split(",")):
            found.setdefault(name.strip().lower(), int(i))
    return found


def _image_shape(config: Any) -> tuple[int, int, int]:
    size = getattr(config, "image_size", None) or IMAGE_SIZE
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return getattr(config, "num_channels", None) or CHANNELS, int(height), int(width)


def _first_shape(module: torch.nn.Module) -> tuple[int, ...] | None:
    """Of one example, by the first linear or convolutional module; None where there is none."""
    from torch import nn

    for part in module.modules():
        if isinstance(part, nn.Linear):
            return (part.in_features,)
        if isinstance(part, nn.Conv2d):
            return part.in_channels, 0, 0
        if isinstance(part, nn.Embedding):
            return None
    return None


def square(features: int) -> int | None:
    """Side of a square image with that many pixels; None where there is none."""
    side = isqrt(features)
    return side if side * side == features else None
