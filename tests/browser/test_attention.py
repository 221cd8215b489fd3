"""The pages of attention in a real browser: from the grid or the table to a head, on to the next one, and back by a copied link."""

import re

import pytest

from store import Filter, Store
from tests.attention_run import make_examples, make_heads, make_patterns
from tests.browser.conftest import Dashboard, at_rest, click_cell, serving
from tests.toy import HOSTILE


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """The dashboard on a store with heads of three models, one of which has HTML for a name; of one also patterns and stored windows."""
    folder = tmp_path_factory.mktemp("heads")
    store = Store(folder / "store")
    runs = {"t5": make_heads(store, "t5"), "hostile": make_heads(store, name=HOSTILE), "llama": make_heads(store)}
    runs |= {"patterns": make_patterns(store), "examples": make_examples(store)}
    make_examples(store, "t5")
    with serving(store.folder) as url:
        yield Dashboard(url, store, runs)


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
    link = page.locator("[data-testid=stPopoverBody] code").filter(has_text="http").first.inner_text().strip()
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


# ---------------------------------------------------------------------------------------------------------------------
# Stored windows, patterns, similar heads


def test_the_walk_from_the_grid_to_a_head_its_example_and_a_similar_head(heads, page):
    open_attention(page, heads)
    head = page.get_by_role("heading", name=re.compile(r"^Head \d:1$"))
    click_cell(page, page.locator(".js-plotly-plot").first, 3 / 8, 1 / 4, head)
    layer = int(re.search(r"Head (\d)", page.locator("h1").inner_text())[1])

    token = page.locator(".strip .token").nth(20)
    token.scroll_into_view_if_needed()
    token.hover()
    tip = page.locator(".tip.on")
    tip.wait_for()
    own = (Filter("layer", "=", layer), Filter("head", "=", 1))
    first = heads.store.read(heads.runs["examples"], "head_at_work", where=[*own, Filter("rank", "=", 1)])["window"].iloc[0]
    where = [*own, Filter("query", "=", 20), Filter("window", "=", first)]
    stored = heads.store.read(heads.runs["examples"], "head_examples", where=where)
    tokens = page.locator(".strip .token").all_inner_texts()
    said = tip.inner_text()
    assert f'looks at "{tokens[stored.iloc[0]["keys"][0]]}"' in said, "the key with the largest stored weight comes first"
    assert painted(page) > 1

    link = page.get_by_test_id("stPageLink").filter(has_text="divergence").first
    other = re.search(r"Head (\d:\d)", link.inner_text().replace("\u2060", ""))[1]
    pairs = heads.store.read(heads.runs["patterns"], "head_pairs", where=[Filter("within", "=", True), Filter("layer_a", "=", layer)])
    nearest = pairs[(pairs["head_a"] == 1) | (pairs["head_b"] == 1)].sort_values("divergence").iloc[0]
    assert other == f"{layer}:{nearest['head_a'] + nearest['head_b'] - 1}", "the least divergence comes first"
    link.click()
    heading(page, f"Head {other}")


def painted(page):
    """How many tokens have a colour."""
    styles = page.locator(".strip .token").evaluate_all("all => all.map((one) => one.style.background)")
    return sum("above" in one or "below" in one for one in styles)


def test_a_click_holds_a_token_until_the_next_and_the_keyboard_does_the_same(heads, page):
    open_head(page, heads)
    token, other = page.locator(".strip .token").nth(20), page.locator(".strip .token").nth(5)
    token.scroll_into_view_if_needed()
    token.click()
    assert token.get_attribute("aria-selected") == "true"
    other.hover()
    page.get_by_text("of the held token: gets").wait_for()
    token.click()
    assert token.get_attribute("aria-selected") == "false"
    other.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator(".strip .token").nth(6).get_attribute("aria-selected") == "true"
    page.keyboard.press("Escape")
    assert page.locator(".strip .token.held").count() == 0
    assert page.get_by_role("heading", name="Head 0:1").count() == 1, "arrow keys in a strip lead to no other head"


def test_cross_attention_points_from_the_decoder_to_the_tokens_of_the_encoder(heads, page):
    run = heads.runs["t5"]
    place = next(row for row in run.summaries["attention_layers"] if row["crosses"])
    page.goto(f"{heads.url}/head?run={run.id}&layer={place['layer']}&hook={place['hook_name']}&head=0")
    page.locator(".strip").nth(1).wait_for()
    at_rest(page)
    token = page.locator(".strip").first.locator(".token").nth(1)
    token.scroll_into_view_if_needed()
    token.hover()
    page.locator(".tip.on").get_by_text("looks at").wait_for()
    styles = page.locator(".strip").nth(1).locator(".token").evaluate_all("all => all.map((one) => one.style.background)")
    assert any("above" in one for one in styles) and not any("below" in one for one in styles)


def test_a_shape_colours_the_grid_filters_it_and_stands_in_the_address(heads, page):
    open_attention(page, heads, more="&more=shape")
    stored = heads.store.read(heads.runs["patterns"], "head_patterns")
    shape = stored["shape"].iloc[0]
    n = int((stored["shape"] == shape).sum())
    page.get_by_text(f"{n:,} {shape}").first.wait_for()
    page.get_by_role("button", name=shape, exact=True).or_(page.get_by_role("checkbox", name=shape, exact=True)).first.click()
    page.get_by_text(f"Heads 1 to {n} of {n}.").wait_for()
    assert "shape=" in page.url


def test_more_keys_keep_more_of_the_attention_and_the_page_says_how_much(heads, page):
    kept = []
    for n in (1, 8):
        open_head(page, heads, more=f"&layer=0&head=1&matrix=the+largest+keys&kept={n}")
        words = page.get_by_text(re.compile("of the valid pairs, mean over")).first.inner_text().replace("\u2060", "")
        kept.append(float(re.search(r"alone: ([\d.]+) % of the attention in [\d.]+ % of the valid pairs", words)[1]))
    assert 0 < kept[0] < kept[1] <= 100
