"""A model brought through the browser: dropped into the page, looked into, asked, answered, deleted. Real server, real jobs."""

from __future__ import annotations

import base64
import re
import time
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.browser.conftest import at_rest
from tests.browser.test_jobs import Bench
from ui.uploads import kept

DROP = """([content, name]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name));
  const hosts = [...document.querySelectorAll('*')].filter((one) => one.shadowRoot);
  const zone = hosts.map((one) => one.shadowRoot.querySelector('.zone')).find(Boolean);
  const options = { dataTransfer: carried, bubbles: true, cancelable: true };
  for (const kind of ['dragenter', 'dragover', 'drop']) zone.dispatchEvent(new DragEvent(kind, options));
}"""


@pytest.fixture
def bench(tmp_path, monkeypatch, own_cache):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SPARSESCOPE_FOLDERS", str(tmp_path))
    made = Bench(tmp_path)
    yield made
    made.close()


def left(bench):
    folder = bench.store.folder / kept.FOLDER
    return sorted(one.name for one in folder.iterdir() if one.name != ".lock") if folder.exists() else []


def open_page(page, bench, query=""):
    page.goto(f"{bench.url}/checkpoint{query}")
    page.locator("h1").first.wait_for()
    at_rest(page)


def titled(page, name):
    """The heading of a model's page; a joiner behind the full stop keeps Markdown from making a link of it."""
    return page.get_by_role("heading", name=name.replace(".", ".\u2060"))


def drop(page, content, name):
    page.get_by_role("button", name="Choose a file").wait_for()
    page.evaluate(DROP, [base64.b64encode(content).decode(), name])


def test_a_zip_of_a_model_folder_dropped_into_the_page_becomes_a_full_model(bench, new_page, tiny_llama, tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for one in tiny_llama.iterdir():
            archive.write(one, f"llama/{one.name}")
    page = new_page()
    open_page(page, bench)
    drop(page, (tmp_path / "z.zip").read_bytes(), "my tiny llama.zip")
    titled(page, "my tiny llama.zip").wait_for()
    assert re.search(r"\?upload=[0-9a-f]{32}$", page.url)
    page.get_by_text("LlamaForCausalLM, 2 layers").wait_for()

    page.get_by_role("button", name="Look inside and ask every question").click()
    page.get_by_role("button", name=re.compile(r"Start the \d+ quick questions")).wait_for(timeout=120_000)
    page.get_by_text(re.compile("TransformerLens. bridge agrees with the model")).wait_for()
    upload = page.url.rpartition("=")[2]
    known = bench.store.known.get(str(bench.store.folder / kept.FOLDER / upload / "file"))
    assert known is not None and known.label == "my tiny llama" and known.task == "causal-lm"
    assert known.needs["neuron_activity"].words is None

    page.get_by_text("windows of 32 tokens, which is all this model reads at once").wait_for()
    page.get_by_role("link", name="Neuron activity").click()
    page.get_by_role("button", name=re.compile("Start$")).wait_for()
    at_rest(page)
    page.get_by_role("textbox", name="n_tokens").fill("64")
    page.get_by_role("textbox", name="window").fill("16")
    page.get_by_role("button", name=re.compile("Start$")).click()
    page.get_by_role("link", name="See the result").wait_for(timeout=120_000)
    run = next(one for one in bench.store.runs() if one.slug == "neuron_activity")
    assert run.status == "sealed" and run.model == "my tiny llama"

    open_page(page, bench, f"?upload={upload}")
    page.get_by_text("Answered").wait_for()
    page.get_by_text("Delete this upload").click()
    page.get_by_role("button", name="Delete it").click()
    page.get_by_role("heading", name="Look into a model").wait_for()
    assert left(bench) == [] and bench.store.find(run.id).status == "sealed"


def test_a_hostile_file_is_refused_in_the_page_as_text_and_leaves_nothing(bench, new_page, axe):
    page = new_page(expect=["/finish"])
    open_page(page, bench)
    drop(page, b"\x80\x04" + b"x" * 4000, "<img src=x onerror=alert(1)>.pkl")
    said = page.get_by_role("alert").filter(has_text="a bare pickle")
    said.wait_for()
    assert "'<img src=x onerror=alert(1)>.pkl', a bare pickle, which is a program" in said.inner_text()
    assert left(bench) == []
    assert axe(page) == []
    drop(page, b"again", "x.pt")  # the next try has a token of its own
    page.get_by_role("alert").filter(has_text="must be safetensors").wait_for()


def test_an_upload_goes_on_after_the_connection_was_lost_and_can_be_cancelled(bench, new_page, tmp_path):
    save_file({"layer.weight": np.random.default_rng(0).random((1500, 1000), np.float32)}, tmp_path / "six.safetensors")
    page = new_page(expect=["/api/uploads"])
    open_page(page, bench)
    failing = {"left": 2, "slow": False}

    def unreliable(route):
        if failing["left"] and "offset=1048576" in route.request.url:
            failing["left"] -= 1
            route.abort()
        else:
            time.sleep(1.0 if failing["slow"] else 0)
            route.continue_()

    page.route("**/api/uploads/**", unreliable)
    choose = page.locator("input[type=file]")
    choose.set_input_files(str(tmp_path / "six.safetensors"))
    titled(page, "six.safetensors").wait_for()
    assert failing["left"] == 0
    page.get_by_text("1.5 million").wait_for()

    open_page(page, bench)
    failing["slow"] = True
    choose.set_input_files(str(tmp_path / "six.safetensors"))
    page.get_by_role("button", name="Cancel").wait_for()
    page.get_by_text(re.compile("about .* left$")).first.wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled; nothing of it was kept.").wait_for()
    until = time.monotonic() + 20
    while len(left(bench)) > 1 and time.monotonic() < until:
        time.sleep(0.1)
    assert len(left(bench)) == 1  # the one that arrived


def test_leaving_the_page_in_the_middle_of_an_upload_frees_its_room(bench, new_page, tmp_path):
    save_file({"layer.weight": np.random.default_rng(0).random((1500, 1000), np.float32)}, tmp_path / "six.safetensors")
    page = new_page(expect=["/api/uploads"])
    open_page(page, bench)
    page.route("**/api/uploads/*?offset=*", lambda route: (time.sleep(1.0), route.continue_()))
    page.locator("input[type=file]").set_input_files(str(tmp_path / "six.safetensors"))
    page.get_by_text(re.compile("about .* left$")).first.wait_for()
    assert left(bench) != []
    page.goto("about:blank")
    until = time.monotonic() + 20
    while left(bench) and time.monotonic() < until:
        time.sleep(0.1)
    assert left(bench) == []


def test_a_file_is_chosen_with_the_keyboard_alone(bench, new_page, tmp_path):
    save_file({"layer.weight": np.ones((4, 6), np.float32)}, tmp_path / "four.safetensors")
    page = new_page(dark=True, width=420)
    open_page(page, bench)
    with page.expect_file_chooser() as chooser:
        at_rest(page)  # a slow browser would take the key before it has learned to hand the dialog to us
        page.get_by_role("button", name="Choose a file").focus()
        page.keyboard.press("Enter")
    chooser.value.set_files(str(tmp_path / "four.safetensors"))
    titled(page, "four.safetensors").wait_for()


@pytest.mark.parametrize("dark", [False, True])
def test_a_path_typed_into_the_page_shows_the_model_and_one_outside_its_sentence(bench, new_page, axe, dark):
    page = new_page(dark=dark)
    open_page(page, bench)
    box = page.get_by_role("textbox", name="Path on the server, or hub id")
    box.fill("/etc/passwd")
    box.press("Enter")
    page.get_by_text("a path must lie inside of the folders").wait_for()
    box.fill(bench.weights)
    box.press("Enter")
    titled(page, "tiny.safetensors").wait_for()
    page.get_by_role("heading", name="Tensors", exact=True).wait_for()
    at_rest(page)
    assert axe(page) == []
    page.get_by_role("button", name="Another model").click()
    page.get_by_role("heading", name="Look into a model").wait_for()
