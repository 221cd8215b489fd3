"""From a name, folder or file to a `Subject`: a model, its tokenizer and its inputs, each with a fingerprint.

This package is the only importer of transformers, transformer_lens and gguf, and imports them (and torch) only inside the
functions that need them.
"""

from __future__ import annotations

from analysis.models.batches import Data, GivenBatches
from analysis.models.opening import open_subject, subject_from
from analysis.models.places import BUNDLED, cache_folder
from analysis.models.subject import Checkpoint, Subject
from analysis.models.tensors import TensorInfo
from analysis.models.text import TextWindows

__all__ = [
    "BUNDLED",
    "Checkpoint",
    "Data",
    "GivenBatches",
    "Subject",
    "TensorInfo",
    "TextWindows",
    "cache_folder",
    "open_subject",
    "subject_from",
]
