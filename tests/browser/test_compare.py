"""Comparing a dense model with a pruned copy in a real browser: the largest change leads to both models; widths; accessibility."""

from __future__ import annotations

import re

import pytest

from store import Store
from tests.browser.conftest import at_rest, serving
from tests.compare_runs import PRUNED_TENSOR, make_compared
from ui.serve import ENTRY


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("compare")
        patch.setenv("SPARSESCOPE_CACHE", str(folder / "cache"))
        made = make_compared(Store(folder / "store"))
        with serving(made.store.folder, ENTRY) as url:
            yield url, made


def open_pair(page, url, query="a=dense&b=pruned"):
    page.goto(f"{url}/compare?{query}")
    page.get_by_role("heading", name="Curves", exact=True).wait_for()
    page.get_by_role("heading", name=re.compile("^What changed most: heads")).wait_for()
    at_rest(page)


def test_the_largest_change_of_a_matrix_opens_in_both_models(compared, page):
    url, made = compared
    open_pair(page, url)
    assert re.search(r"[?&]a=[0-9a-f]{10}&b=[0-9a-f]{10}", page.url), "the address names both models"
    table = page.get_by_test_id("stDataFrame").filter(has_text=PRUNED_TENSOR).first
    table.scroll_into_view_if_needed()
    at_rest(page)
    opened = {clicked_link(page, table, place): run["weight_sparsity"].id for place, run in ((1, made.dense), (0, made.pruned))}
    assert len(opened) == 2
    for address, run in opened.items():
        assert f"run={run}" in address and f"tensor={PRUNED_TENSOR}" in address


def clicked_link(page, table, place):
    """The address that the link in the first row opens, counted from the right: links are where the pointer becomes a hand."""
    box = table.bounding_box()
    spans, x = [], box["x"] + box["width"] - 4
    while len(spans) <= place:
        x -= 6
        assert x > box["x"], "no link in the first row"
        page.mouse.move(x, box["y"] + 52)
        page.wait_for_timeout(30)
        hand = page.evaluate("([x, y]) => getComputedStyle(document.elementFromPoint(x, y)).cursor === 'pointer'", [x, box["y"] + 52])
        if hand and (not spans or spans[-1] - x > 40):
            spans.append(x)
    with page.context.expect_page() as other:
        page.mouse.click(spans[place], box["y"] + 52)
    tab = other.value
    tab.get_by_role("heading", name=PRUNED_TENSOR).first.wait_for()
    address = tab.url
    tab.close()
    return address


def test_what_the_page_shows_stays_in_the_address(compared, page):
    url, _ = compared
    open_pair(page, url)
    before = page.url
    page.reload()
    page.get_by_role("heading", name=re.compile("^What changed most: heads")).wait_for()
    assert page.url == before


def test_a_model_left_out_is_said_with_the_command(compared, page):
    url, _ = compared
    open_pair(page, url, "a=dense&b=twin")
    page.get_by_text("has not been asked of B, twin").first.wait_for()
    page.get_by_text("Nothing changed: share of keys is exactly the same for all 8 heads").wait_for()
    page.get_by_role("link", name="Ask it of B").first.wait_for()


def test_other_data_are_said_before_any_number(compared, page):
    url, made = compared
    open_pair(page, url, f"a=dense&b={made.other_data.id}")
    page.get_by_text("B and A are not comparable here.").wait_for()


@pytest.mark.parametrize(("width", "dark"), [(1600, False), (420, False), (1600, True)])
def test_it_fits_wide_and_narrow_light_and_dark(compared, new_page, axe, width, dark):
    url, _ = compared
    page = new_page(width=width, dark=dark)
    open_pair(page, url)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), "nothing sticks out at the side"
    assert axe(page) == []


def test_the_report_downloads_as_one_file_that_opens_by_itself(compared, page, tmp_path, axe):
    url, _ = compared
    page.goto(f"{url}/report?model=pruned")
    page.get_by_role("heading", name="What was not measured").wait_for()
    at_rest(page)
    assert axe(page) == []
    with page.expect_download() as download:
        page.get_by_role("button", name="One HTML file").click()
    file = tmp_path / "report.html"
    download.value.save_as(file)
    assert download.value.suggested_filename == "pruned-report.html"
    page.goto("about:blank")
    page.set_content(file.read_text(encoding="utf-8"))
    assert page.locator("img").count() >= 5
    assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert axe(page) == []
