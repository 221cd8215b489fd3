"""The sensitivity page in a real browser: a run started from the form grows point by point, then stands; clicks, widths, accessibility."""

from __future__ import annotations

import re
import urllib.parse

import pytest

from tests.browser.conftest import at_rest, click_cell, serving
from tests.browser.test_jobs import Bench, start_it
from tests.sensitivity_run import FIRST_TO_GO, make_allocation, make_digits, make_matrices, make_words
from ui.sensitivity.tokens import EVERY
from ui.serve import ENTRY

LEVELS = ", ".join(f"{level / 100:.2f}" for level in range(2, 98, 2))
"""So many that the curve is seen growing, on a model that takes a moment for each."""
PLOT = ".js-plotly-plot"
HALF_A_NAT = re.compile("before the loss rises by 0.\u2060?5 nats")
GROWING = re.compile("levels? measured, up to")


@pytest.fixture
def bench(tmp_path, tiny_llama, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = Bench(tmp_path)
    made.model = str(tiny_llama)
    made.text = tmp_path / "notes.txt"
    made.text.write_text("\n<|endoftext|>\n".join(" ".join(f"w{(i * k) % 38}" for i in range(400)) for k in range(1, 61)))
    yield made
    made.close()


DRAWN = f"(document.querySelector('{PLOT}')?._fullData ?? []).find(t => t.meta === 0)?.x.length ?? 0"
"""Points of the first curve on the page, as its browser draws it."""


def points_drawn(page):
    return page.evaluate(f"() => {DRAWN}")


def grown(page, more_than):
    page.wait_for_function(f"() => ({DRAWN}) > {more_than}")
    return points_drawn(page)


def test_a_curve_grows_on_the_jobs_page_and_on_its_own_page_and_then_stands(bench, new_page):
    asked = {"analysis": "essential_sparsity", "model": bench.model, "data": str(bench.text), "levels": LEVELS, "window": "16",
             "n_tokens": "16384", "batch_tokens": "64", "kl_positions": "0"}  # fmt: skip
    page, other = new_page(), new_page()
    page.goto(f"{bench.url}/start?" + urllib.parse.urlencode(asked))
    page.get_by_role("heading", name="Start an analysis").wait_for()
    start_it(page)
    page.get_by_text(GROWING).wait_for()
    first = grown(page, 0)
    assert grown(page, first) > first, "the curve did not grow"
    other.goto(f"{bench.url}/sensitivity?" + urllib.parse.urlencode({"model": bench.model}))
    other.get_by_text(GROWING).wait_for()
    seen = grown(other, first)
    assert grown(other, seen) > seen, "the curve did not grow on the sensitivity page"
    page.get_by_text("Done after").wait_for(timeout=120_000)
    page.get_by_role("link", name="See its curves").click()
    page.get_by_role("heading", name="How much can go before the model notices").wait_for()
    other.get_by_role("heading", name="How much can go before the model notices").wait_for()
    for one in (page, other):
        at_rest(one)
        assert one.get_by_text(GROWING).count() == 0
        assert points_drawn(one) == 1 + len(LEVELS.split(","))


def test_a_stopped_curve_is_marked_and_can_be_resumed(bench, page):
    job = bench.desk.submit(
        "essential_sparsity",
        bench.model,
        data=str(bench.text),
        config={"levels": LEVELS, "window": 16, "batch_tokens": 64, "kl_positions": 0},
    )
    page.goto(f"{bench.url}/job?job={job.id}")
    grown(page, 2)
    page.get_by_role("button", name=re.compile("Cancel")).click()
    page.get_by_role("button", name="Stop it").click()
    page.get_by_text("It has no result.").wait_for()
    page.get_by_text(re.compile("Unfinished, stopped")).first.wait_for()
    assert points_drawn(page) > 2 and page.get_by_role("button", name=re.compile("Resume")).count() == 1


@pytest.fixture
def measured(tmp_path, own_cache):
    from store import Store

    store = Store(tmp_path / "store")
    run = make_digits(store, methods="magnitude, random", levels="0.1, 0.3, 0.5, 0.6, 0.8")
    with serving(store.folder, ENTRY) as url:
        yield url, run


def test_a_click_on_a_cell_looks_at_that_matrix_and_the_address_keeps_it(measured, page):
    url, _ = measured
    page.goto(f"{url}/sensitivity")
    page.get_by_role("heading", name="Where the removed weights sit").wait_for()
    at_rest(page)
    click_cell(page, page.locator(PLOT).nth(1), 1 / 2, 1 / 4, page.get_by_text(re.compile(r"of its 4,096 weights are zero")))
    assert "tensor=" in page.url
    page.reload()
    page.get_by_text(re.compile(r"of its 4,096 weights are zero")).wait_for()


def test_what_is_chosen_is_in_the_address_and_a_reload_shows_the_same(measured, page):
    url, run = measured
    page.goto(f"{url}/sensitivity?run={run.id}")
    page.get_by_text("Near the tolerance").click()
    page.get_by_text("The axis ends at four tolerances").wait_for()
    page.get_by_role("radio", name="0.5", exact=True).click()
    page.get_by_text(HALF_A_NAT).first.wait_for()
    at_rest(page)
    assert "y=" in page.url and "eps=0.5" in page.url
    page.reload()
    page.get_by_text("The axis ends at four tolerances").wait_for()
    page.get_by_text(HALF_A_NAT).first.wait_for()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_a_phone(measured, new_page, axe, dark):
    url, run = measured
    page = new_page(dark=dark)
    faults = []
    for view in ("/sensitivity", f"/sensitivity?run={run.id}&tensor=2.weight&y=KL+to+dense", "/sensitivity?model=nobody"):
        page.goto(url + view)
        page.locator("h1").first.wait_for()
        page.wait_for_timeout(2500)
        faults += [f"{view}: {fault}" for fault in axe(page)]
    assert not faults, "\n".join(faults)
    phone = new_page(width=420, height=900, dark=dark)
    phone.goto(f"{url}/sensitivity")
    phone.get_by_role("heading", name="Where the removed weights sit").wait_for()
    at_rest(phone)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 420


@pytest.fixture
def worded(tmp_path, own_cache):
    from store import Store

    store = Store(tmp_path / "store")
    run = make_words(store)
    make_digits(store, levels="0.3, 0.6")
    make_allocation(store, make_matrices(store, split="choice"))
    with serving(store.folder, ENTRY) as url:
        yield url, run


def test_the_token_that_gets_worse_is_the_one_coloured_and_said_and_a_phone_shows_it(worded, new_page, axe):
    url, run = worded
    address = f"{url}/sensitivity?" + urllib.parse.urlencode({"run": run.id, "at": f"{100 * FIRST_TO_GO:.1f} %", "example": EVERY})
    page = new_page()
    page.goto(address)
    strip = page.get_by_role("listbox", name=re.compile("Window .* mean change"))
    strip.first.wait_for()
    at_rest(page)
    worst = page.locator(".token.peak", has_text="e").first
    assert re.match('"e": [1-9]', worst.get_attribute("aria-label"))
    assert not axe(page)
    phone = new_page(width=420, height=900)
    phone.goto(address)
    phone.locator(".token.peak").first.wait_for()
    at_rest(phone)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 420


def test_the_filled_panel_of_the_allocation_has_its_two_pictures(worded, new_page, axe):
    url, _ = worded
    page = new_page()
    page.goto(f"{url}/sensitivity?model=digits")
    page.get_by_role("heading", name="Shared out among the matrices").wait_for()
    at_rest(page)
    panel = page.locator(PLOT)
    assert panel.count() >= 5, "curves, where they sit, the grid, its ranking, and the allocation's own"
    assert not axe(page)
