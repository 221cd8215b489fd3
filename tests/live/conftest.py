"""A private cache folder, so that no test meets a live model of somebody else; real workers, always stopped."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from analysis.live import LiveModel

SITE = "blocks.3.mlp.hook_post"
TEXT = "The cat sat on the mat, and the dog's 🐕 naïve plan failed."


@pytest.fixture(scope="module")
def short_folder():
    """Short enough for a socket, wherever the tests' own folders are."""
    folder = tempfile.mkdtemp(prefix="live")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def machine(short_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESCOPE_CACHE", str(short_folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def live(short_folder):
    """A live MiniLM, started (again) where it does not run."""
    one = LiveModel(short_folder / "store", "minilm")
    yield one
    one.stop()


@pytest.fixture
def ready(live):
    if not live.status().answers:
        live.start()
        assert live.wait().state == "ready", live.status().words
    return live
