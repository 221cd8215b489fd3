"""A text of one's own on a neuron's page: the live model is started by a click, shows how far it is, answers, and can be stopped."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from analysis.live import LiveModel
from analysis.spec import make_config
from store import Store
from tests.browser.conftest import at_rest, serving

pytestmark = pytest.mark.models
HOSTILE_TEXT = "<img src=x onerror=alert(1)> **bold** $x$ '; DROP TABLE neurons; --"


@pytest.fixture(scope="module")
def served():
    """The dashboard on a real run of MiniLM, with a cache folder of its own; yields address, run and live model."""
    from analysis.models import open_subject
    from analysis.neurons.neuron_activity import NEURON_ACTIVITY, NeuronActivityConfig
    from analysis.runner import run

    folder = Path(tempfile.mkdtemp(prefix="live"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESCOPE_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        config = make_config(NeuronActivityConfig, {"n_tokens": 1024, "window": 32, "examples": 3})
        subject = open_subject("minilm", "python-docs", n_tokens=1024, window=32)
        store = Store(folder / "store")
        info = run(NEURON_ACTIVITY, {"model": subject}, config, store)
        live = LiveModel(store.folder, "minilm", fingerprints=info.provenance["fingerprints"]["model"])
        with serving(store.folder) as url:
            yield url, info, live
        live.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def page(new_page):
    return new_page(expect=("/neuron/_stcore/",))


def address(served, neuron):
    url, info, _ = served
    return f"{url}/neuron?run={info.id}&layer=3&hook=blocks.3.mlp.hook_post&neuron={neuron}"


def box(page):
    return page.get_by_role("textbox", name="Your text")


def test_a_text_is_typed_the_model_starts_and_the_next_neuron_answers_at_once(served, page, axe):
    live = served[2]
    page.goto(address(served, 17))
    box(page).wait_for()
    assert live.status().state == "absent"  # opening a page starts nothing
    box(page).fill("The cat sat on the mat.")
    page.get_by_role("button", name="Start the live model (about 713.6 MB of memory) and run").click()
    page.get_by_text("The live model is starting").first.wait_for()
    page.get_by_text("Largest activation:").wait_for(timeout=60_000)
    assert live.status().state == "ready"
    expected = live.forward("The cat sat on the mat.", ["blocks.3.mlp.hook_post"], [17]).units[0]
    page.get_by_text(f"Active on {expected.n_active} of 9 tokens").wait_for()
    strip = page.get_by_role("listbox", name="Your text, 9 tokens; arrow keys move along the tokens")
    assert strip.get_by_role("option").all_inner_texts() == ["[CLS]", "the", "cat", "sat", "on", "the", "mat", ".", "[SEP]"]
    assert not axe(page)

    began = time.monotonic()
    page.get_by_role("button", name=re.compile("Next")).click()
    page.get_by_role("heading", name=re.compile("^Neuron 3:.?18$")).wait_for()
    nexts = live.forward("The cat sat on the mat.", ["blocks.3.mlp.hook_post"], [18]).units[0]
    page.get_by_text(f"Active on {nexts.n_active} of 9 tokens").wait_for()
    assert time.monotonic() - began < 10
    assert box(page).input_value() == "The cat sat on the mat."


def test_a_text_that_is_too_long_is_refused_in_a_sentence_and_a_hostile_one_is_text(served, page):
    live = served[2]
    live.start()
    live.wait()
    page.goto(address(served, 17))
    box(page).fill("cat " * 600)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("at most 512 tokens, got 602; shorten it").wait_for()
    box(page).fill(HOSTILE_TEXT)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Largest activation:").wait_for()
    page.get_by_role("option", name='"onerror"').or_(page.get_by_role("option", name='"one"')).first.wait_for()


def test_an_example_is_taken_into_the_box(served, page):
    page.goto(address(served, 17))
    box(page).wait_for()
    at_rest(page)
    page.get_by_role("button", name="Top 1", exact=True).or_(page.get_by_role("radio", name="Top 1", exact=True)).first.click()
    page.wait_for_function("() => document.querySelector('textarea').value.length > 20")


def test_stopped_by_a_click_and_killed_by_the_system_it_says_so_and_can_be_started_again(served, page):
    live = served[2]
    live.start()
    pid = live.wait().pid
    page.goto(address(served, 17))
    page.get_by_text("The live model is ready").wait_for()
    page.get_by_role("button", name="Stop it").click()
    page.get_by_text("was asked to leave, to free its memory").wait_for()
    live.start()
    import psutil

    psutil.Process(live.wait().pid).kill()
    page.goto(address(served, 17))
    page.get_by_text("ended without a word").wait_for()
    box(page).fill("a cat")
    page.get_by_role("button", name="Start the live model").click()
    page.get_by_text("Largest activation:").wait_for(timeout=60_000)
    assert live.status().pid != pid
