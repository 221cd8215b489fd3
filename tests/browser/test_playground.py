"""The playground in a browser: a prompt with an intervention, an address that gives the same view again, the keyboard alone."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from analysis.live import LiveModel, Play, Step, UnitRef
from store import Store
from tests.browser.conftest import PATIENCE, at_rest, serving
from tests.characters import tokenizer

PROMPT = "the seas and the stars"
HOSTILE = "<img src=x onerror=alert(1)> **bold** $x$ [a](javascript:1) :smile:"


@pytest.fixture(scope="module")
def served():
    """The dashboard beside a tiny model on disk; yields address, where the model is, and its live model."""
    import torch

    from tests import zoo

    folder = Path(tempfile.mkdtemp(prefix="live"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESCOPE_CACHE", str(folder / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        model, _ = zoo.llama()
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3).add_(torch.randn_like(parameter) * 0.02)
        place = folder / "tiny"
        model.save_pretrained(place)
        tokenizer().save_pretrained(place)
        Store(folder / "store").close()
        live = LiveModel(folder / "store", str(place))
        with serving(folder / "store") as url:
            yield url, str(place), live
        live.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def page(new_page):
    return new_page(expect=("/playground/_stcore/",))


@pytest.fixture
def ready(served):
    live = served[2]
    if not live.status().answers:
        live.start()
        assert live.wait().state == "ready", live.status().words
    return live


def address(served, **query):
    return f"{served[0]}/playground?{urlencode({'model': served[1], **query})}"


def query_of(page):
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_a_prompt_is_run_with_an_intervention_and_the_address_gives_the_same_view_again(served, page, axe, new_page):
    live = served[2]
    live.stop()
    page.goto(address(served))
    box = page.get_by_role("textbox", name="Prompt", exact=True)
    box.wait_for()
    at_rest(page)
    assert live.status().state in ("absent", "ended")  # opening a page starts nothing
    box.fill(PROMPT)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("22 tokens").first.wait_for(timeout=60_000)
    assert query_of(page)["text"] == PROMPT
    page.get_by_role("combobox", name="Intervention").click()
    page.get_by_role("combobox", name="Intervention").fill("ffn-topk")
    page.get_by_role("option", name="ffn-topk", exact=True).click()
    page.get_by_text("KL divergence from the dense model").wait_for()
    expected = live.play(Play(PROMPT, (Step("ffn-topk", 0.5),)))
    assert expected.kl is not None and expected.same is not None
    page.get_by_text(f"stayed on {sum(expected.same)} of 22").wait_for()
    assert query_of(page)["step1"] == "ffn-topk"
    at_rest(page)
    assert not axe(page)

    again = new_page(expect=("/playground/_stcore/",))
    again.goto(page.url)
    again.get_by_text(f"stayed on {sum(expected.same)} of 22").wait_for()
    expect(again.get_by_role("textbox", name="Prompt", exact=True)).to_have_value(PROMPT, timeout=PATIENCE)


def test_with_the_keyboard_alone_a_prompt_is_run_and_its_tokens_are_walked(served, page, ready):
    page.goto(address(served, text="the sea", unit="head 0:1"))
    strip = page.get_by_role("listbox", name=re.compile("where the head looks, 7 tokens")).first
    strip.wait_for()
    at_rest(page)
    box = page.get_by_role("textbox", name="Prompt", exact=True)
    box.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type(PROMPT)
    page.keyboard.press("Control+Enter")
    page.get_by_text("22 tokens").first.wait_for()
    at_rest(page)
    strip = page.get_by_role("listbox", name=re.compile("where the head looks, 22 tokens")).first
    option = strip.get_by_role("option").nth(21)
    strip.locator("[tabindex='0']").focus()
    page.keyboard.press("End")
    assert option.evaluate("node => node === node.getRootNode().activeElement")
    page.keyboard.press("Enter")
    assert option.get_attribute("aria-selected") == "true"


def test_a_token_is_chosen_and_stands_in_the_address(served, page, ready):
    page.goto(address(served, text=PROMPT))
    page.get_by_text("Most probable next tokens").wait_for()
    at_rest(page)
    page.get_by_role("radio", name=re.compile("^h ")).or_(page.get_by_role("button", name=re.compile("^h "))).first.click()
    page.wait_for_function("() => new URL(location).searchParams.get('at') === '1'")
    page.get_by_text("Most probable next tokens at h").wait_for()


def test_two_prompts_stand_side_by_side(served, page, ready):
    page.goto(address(served, text="the sea", other="the stars", beside="another prompt"))
    found = [ready.play(Play(text)).dense.mean_loss for text in ("the sea", "the stars")]
    page.get_by_text("Loss in nats per token").wait_for()
    page.get_by_text(f"{found[1] - found[0]:+.4g}").wait_for()
    page.get_by_text("Token of second prompt").wait_for()


def test_a_hostile_prompt_is_text_everywhere_and_too_long_a_one_is_refused_in_a_sentence(served, page, ready):
    page.goto(address(served, text=HOSTILE, step1="sink-window", new="2"))
    page.get_by_text("Most probable next tokens").wait_for()
    at_rest(page)
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_have_value(HOSTILE, timeout=PATIENCE)
    page.goto(address(served, text="e" * 300))
    page.get_by_text("must have at most 256 tokens here, got 300").wait_for()


def test_a_cancelled_question_frees_the_worker(served, page, ready):
    slow = Play("e" * 200, (Step("attention-random", 0.5),), colour=UnitRef("head", 1, 1), new=32)
    page.goto(address(served, text=slow.text, step1="attention-random", unit="head 1:1", new="32"))
    cancel = page.get_by_role("button", name="Cancel")
    done = page.get_by_text("200 tokens").first
    cancel.or_(done).first.wait_for()
    if cancel.is_visible():  # a fast machine may have answered before
        cancel.click()
        page.get_by_text("was cancelled; Run asks it again").or_(done).first.wait_for()
    assert ready.play(Play("a sea")).tokens[0] == "a"


def test_a_prompt_too_long_for_the_page_becomes_a_job_and_a_run(served, page):
    text = "\n".join(["the sea"] * 38)
    page.goto(address(served, text=text, step1="ffn-topk"))
    page.get_by_role("link", name="As a job").click()
    page.get_by_role("heading", name="Start an analysis").wait_for()
    expect(page.get_by_role("textbox", name="prompt")).to_have_value(text, timeout=PATIENCE)
    at_rest(page)
    page.get_by_role("button", name=re.compile("Start$")).click()
    page.wait_for_url(re.compile(r"/job\?job="))
    page.get_by_role("link", name="See the result").click(timeout=6 * PATIENCE)  # a process of its own loads torch first
    page.wait_for_url(re.compile(r"/run\?run="))
    page.get_by_text("at each token of one prompt of 303 tokens").first.wait_for()
