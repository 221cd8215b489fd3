"""A tiny seeded model that reads text, a token for each character."""

from __future__ import annotations

import numpy as np
import torch

from analysis.live.reader import Reader
from analysis.models import TextWindows, subject_from


def tokenizer():
    """A token for each of sixty characters, so that the calibration text says something."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = "?etaoinshrdlcumwfgypbvkjxqz ETAOINSHRDLC0123456789.,:;()_\n=-"
    made = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters[:60])}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?")


def subject_of(family):
    """A tiny model with weights large enough that its predictions differ, which reads characters."""
    model, _ = family()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3).add_(torch.randn_like(parameter) * 0.02)
    ids = np.random.default_rng(0).integers(3, 60, (16, 12))
    return subject_from(model, name="tiny", data=TextWindows.from_ids(ids), tokenizer=tokenizer())


def reader_of(family, store=""):
    """A live model's reader of it."""
    return Reader(subject_of(family), store)
