from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before anything imports huggingface_hub

import pytest

from analysis.models import open_subject


@pytest.fixture(scope="session", autouse=True)
def _few_threads():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def minilm():
    return open_subject("minilm", "python-docs", n_tokens=2000, window=64)


@pytest.fixture(scope="session")
def smollm2():
    """The first time on a machine this converts the GGUF file (15 to 80 s); then it is in the cache folder."""
    return open_subject("smollm2", "python-docs", n_tokens=2000, window=128)
