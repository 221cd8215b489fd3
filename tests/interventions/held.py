"""Subjects for tests of interventions."""

from types import SimpleNamespace

import torch

from analysis.models.tensors import tensors_of_module


def subject_of(make):
    """A zoo model as a subject, with its batch."""
    model, batch = make()
    return SimpleNamespace(model=model, batch=batch, tensors=lambda: tensors_of_module(model))


def output_of(subject):
    """What the model answers to its batch."""
    with torch.no_grad():
        out = subject.model(**subject.batch) if isinstance(subject.batch, dict) else subject.model(*subject.batch)
    return out.logits if hasattr(out, "logits") else out
