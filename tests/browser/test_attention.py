"""The pages of attention in a real browser: from the grid or the table to a head, on to the next one, and back by a copied link."""

import re

import pytest

from store import Store
from tests.attention_run import make_heads
from tests.browser.conftest import Dashboard, at_rest, click_cell, start
from tests.toy import HOSTILE


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """The dashboard on a store with heads of three models, one of which has HTML for a name."""
    folder = tmp_path_factory.mktemp("heads")
    store = Store(folder / "store")
    runs = {"t5": make_heads(store, "t5"), "hostile": make_heads(store, name=HOSTILE), "llama": make_heads(store)}
    with open(folder / "server.log", "w+") as log:
        process, url = start(store.folder, log)
        yield Dashboard(url, store, runs)
        process.terminate()
        process.wait(10)


def open_attention(page, heads, which="llama", more=""):
    page.goto(f"{heads.url}/attention?run={heads.runs[which].id}{more}")
    page.locator(".js-plotly-plot").nth(1).wait_for()
    page.get_by_test_id("stDataFrame").first.wait_for()
    at_rest(page)


def open_head(page, heads, which="llama", more="&layer=0&head=1"):
    page.goto(f"{heads.url}/head?run={heads.runs[which].id}{more}")
    page.locator(".js-plotly-plot").nth(2).wait_for()
    at_rest(page)


def heading(page, text):
    page.get_by_role("heading", name=text, exact=True).wait_for()
    at_rest(page)


def test_the_walk_from_the_grid_to_a_head_the_next_one_the_next_layer_and_a_copied_link(heads, page, new_page):
    page.goto(heads.url)
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Attention").click()
    page.locator(".js-plotly-plot").nth(1).wait_for()
    at_rest(page)
    head = page.get_by_role("heading", name=re.compile(r"^Head \d:1$"))
    click_cell(page, page.locator(".js-plotly-plot").first, 3 / 8, 1 / 4, head)  # the second of four columns, the upper of two rows
    at_rest(page)
    layer = int(re.search(r"Head (\d)", page.locator("h1").inner_text())[1])

    page.get_by_role("button", name="Next").first.click()
    heading(page, f"Head {layer}:2")
    page.keyboard.press("ArrowLeft")
    heading(page, f"Head {layer}:1")
    page.get_by_role("button", name="Layer before" if layer else "Layer after").click()
    heading(page, f"Head {1 - layer}:1")
    page.get_by_placeholder(f"{1 - layer}:1").fill("0:3")
    page.get_by_placeholder(f"{1 - layer}:1").press("Enter")
    heading(page, "Head 0:3")

    page.get_by_role("button", name=re.compile("Link to this view")).click()
    link = page.locator("[data-testid=stPopoverBody] code").inner_text().strip()
    other = new_page()
    other.goto(link)
    heading(other, "Head 0:3")


def test_a_row_of_the_table_opens_its_head(heads, page):
    open_attention(page, heads, more="&search=1:2")
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 60, box["y"] + 52)
    heading(page, "Head 1:2")


def test_a_measure_of_the_list_colours_the_grid_and_stands_in_the_address(heads, page):
    open_attention(page, heads)
    page.get_by_role("radio", name="Gini").or_(page.get_by_role("button", name="Gini", exact=True)).first.click()
    page.get_by_text("index; range: 0 to 1").first.wait_for()
    assert "colour=Gini" in page.url
    open_attention(page, heads, more="&more=span")
    page.get_by_text("unit: tokens").first.wait_for()
    page.get_by_role("radio", name="entropy", exact=True).or_(page.get_by_role("button", name="entropy", exact=True)).first.click()
    page.get_by_text("unit: share of uniform").first.wait_for()
    at_rest(page)
    assert "colour=entropy" in page.url and "more=" not in page.url


def test_a_name_with_html_makes_no_element(heads, page):
    open_attention(page, heads, "hostile")
    assert page.locator("img[src='x']").count() == 0
    open_head(page, heads, "hostile")
    assert page.locator("img[src='x']").count() == 0 and page.locator("[onerror]").count() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(heads, new_page, axe, dark):
    page = new_page(dark=dark)
    open_attention(page, heads)
    assert not axe(page)
    open_head(page, heads)
    assert not axe(page)


@pytest.mark.parametrize("which", ["llama", "t5"])
def test_a_narrow_window_needs_no_scrolling_sideways(heads, new_page, which):
    page = new_page(width=420, height=900)
    open_attention(page, heads, which)
    assert page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollWidth") <= 422
    open_head(page, heads)
    assert page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollWidth") <= 422
