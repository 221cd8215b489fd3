"""The pages of weights in a real browser: from the map to a tensor, on to the next one, and back by a copied link."""

import re

import pytest

from tests.browser.conftest import Dashboard, at_rest, click_cell, serving
from tests.weight_runs import DEAD, HOSTILE_TENSOR, OFFENDER, make_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The dashboard on a store with every analysis of weights, one of whose tensors has HTML for a name."""
    folder = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSESCOPE_CACHE", str(folder / "cache"))
        made = make_weights(folder)
        with serving(made.store.folder) as url:
            yield Dashboard(url, made.store, {"half": made.half, "dense": made.dense, "last": made.last})


def open_weights(page, weights, which="half", more=""):
    page.goto(f"{weights.url}/weights?run={weights.runs[which].id}{more}")
    page.locator(".treemaplayer .slice").or_(page.locator(".scatterlayer .trace")).first.wait_for(state="attached")
    at_rest(page)


def open_tensor(page, weights, tensor=DEAD, which="half"):
    page.goto(f"{weights.url}/tensor?run={weights.runs[which].id}&tensor={tensor}")
    page.locator(".barlayer .point").first.wait_for(state="attached")
    at_rest(page)


def heading(page, text):
    page.get_by_role("heading", name=text, exact=True).wait_for()


def test_the_walk_from_a_cell_of_the_map_to_a_tensor_the_next_one_and_its_copied_link(weights, page, new_page):
    page.goto(weights.url)
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Weights").click()
    page.get_by_text("claims to be 2 of 4 kept and is not").wait_for()
    at_rest(page)
    tensor = page.get_by_role("heading", name=re.compile(r"^model\.layers\.0\."))
    click_cell(page, page.locator(".js-plotly-plot").nth(1), 1 / 6, 0.04, tensor)
    at_rest(page)
    before = page.locator("h1").inner_text()

    page.get_by_role("button", name="Next", exact=False).first.click()
    page.wait_for_function(f"() => document.querySelector('h1') && document.querySelector('h1').innerText !== {before!r}")
    at_rest(page)
    after = page.locator("h1").inner_text()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"() => document.querySelector('h1') && document.querySelector('h1').innerText === {before!r}")
    at_rest(page)
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"() => document.querySelector('h1') && document.querySelector('h1').innerText === {after!r}")
    at_rest(page)

    page.get_by_role("button", name=re.compile("Link to this view")).click()
    link = page.locator("[data-testid=stPopoverBody] code").filter(has_text="http").first.inner_text().strip()
    other = new_page()
    other.goto(link)
    other.get_by_role("heading", name=re.compile(re.escape(after.replace("\u2060", "")[:20]))).first.wait_for()


def test_a_row_of_the_table_opens_its_tensor(weights, page):
    open_weights(page, weights, more="&sort=zeros&layer=2")
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 60, box["y"] + 52)
    page.get_by_role("heading", name=re.compile("up_proj")).wait_for()
    assert DEAD.split(".")[-2] in page.url


def test_the_first_offending_group_is_one_click_away(weights, page):
    open_weights(page, weights)
    page.get_by_role("link", name=re.compile("Open.*down_proj")).click()
    page.get_by_text("row 7, group 3 (columns 12 to 15), with 3 non-zeros").wait_for()
    assert OFFENDER in page.url


def test_a_click_on_a_layer_of_the_treemap_looks_into_it(weights, page):
    open_weights(page, weights)
    slices = page.locator(".treemaplayer .slice")
    n = slices.count()
    page.locator(".treemaplayer .slice", has_text="layer 1").first.click(position={"x": 20, "y": 8})
    page.wait_for_timeout(1500)
    assert page.locator(".treemaplayer .slice").count() < n


def test_a_name_with_html_makes_no_element(weights, page):
    open_weights(page, weights)
    assert page.locator("img[src='x']").count() == 0
    open_tensor(page, weights, HOSTILE_TENSOR.replace("<", "%3C").replace(">", "%3E").replace(" ", "%20").replace("=", "%3D"))
    assert page.locator("img[src='x']").count() == 0 and page.locator("[onerror]").count() == 0
    assert "<img" in page.locator("h1").inner_text()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(weights, new_page, axe, dark):
    page = new_page(dark=dark)
    open_weights(page, weights)
    assert not axe(page)
    open_tensor(page, weights)
    assert not axe(page)


@pytest.mark.parametrize("view", ["beside another", "over a series"])
def test_axe_finds_nothing_serious_in_the_other_views(weights, page, axe, view):
    open_weights(page, weights, "last" if "series" in view else "half", more=f"&view={view.replace(' ', '%20')}")
    assert not axe(page)


def test_a_narrow_window_needs_no_scrolling_sideways(weights, new_page):
    page = new_page(width=420, height=900)
    for go in (open_weights, open_tensor):
        go(page, weights)
        assert page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollWidth") <= 422
