"""The neuron browser in a real browser: from home to a neuron, along its neighbours, and back by a copied link."""

import re

import pytest

from store import Store
from tests.browser.conftest import Dashboard, serving
from tests.browser.test_first_walk import at_rest
from tests.neuron_run import make_neurons
from tests.toy import HOSTILE


@pytest.fixture(scope="module")
def neurons(tmp_path_factory):
    """The dashboard on a store with one run of neurons, whose text holds hostile tokens."""
    folder = tmp_path_factory.mktemp("neurons")
    store = Store(folder / "store")
    runs = {"neurons": make_neurons(store, n_examples=6)}
    with serving(store.folder) as url:
        yield Dashboard(url, store, runs)


def address(neurons, layer=1, neuron=7, more=""):
    run = neurons.runs["neurons"].id
    return f"{neurons.url}/neuron?run={run}&layer={layer}&hook=blocks.{layer}.mlp.hook_post&neuron={neuron}{more}"


def open_neuron(page, neurons, *where, **more):
    page.goto(address(neurons, *where, **more))
    page.locator(".strip").first.wait_for()
    at_rest(page)


def heading(page, text):
    page.get_by_role("heading", name=text, exact=True).wait_for()


def test_the_walk_from_home_to_a_neuron_its_neighbours_and_its_copied_link(neurons, page, new_page):
    page.goto(neurons.url)
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Neurons").click()
    page.get_by_text("Neurons 1 to 25 of 120.").wait_for()
    assert f"run={neurons.runs['neurons'].id}" in page.url

    page.get_by_role("combobox", name=re.compile("Layer")).click()
    page.get_by_role("option", name="1", exact=True).click()
    page.get_by_text("Neurons 1 to 25 of 40.").wait_for()
    assert "site=1" in page.url
    at_rest(page)

    table = page.get_by_test_id("stDataFrame")
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 30, box["y"] + 300)
    page.get_by_role("heading", name=re.compile(r"^Neuron 1:\d+$")).wait_for()
    page.locator(".strip").first.wait_for()
    number = int(re.search(r"neuron=(\d+)", page.url)[1])
    assert 5 <= number <= 9  # about the eighth row, whatever the rows measure exactly

    page.get_by_role("button", name=re.compile("Next")).click()
    heading(page, f"Neuron 1:{number + 1}")
    at_rest(page)
    page.keyboard.press("ArrowRight")
    heading(page, f"Neuron 1:{number + 2}")
    at_rest(page)
    page.keyboard.press("ArrowLeft")
    heading(page, f"Neuron 1:{number + 1}")
    at_rest(page)

    page.get_by_role("button", name=re.compile("Link to this view")).click()
    link = page.locator("[data-testid=stPopoverBody] code").filter(has_text="http").first.inner_text().strip()
    other = new_page()
    other.goto(link)
    heading(other, f"Neuron 1:{number + 1}")
    said = "[data-testid=stMarkdown] strong"
    assert other.locator(said).first.inner_text() == page.locator(said).first.inner_text()


def test_arrow_keys_stay_with_the_text_while_one_types(neurons, page):
    open_neuron(page, neurons)
    field = page.get_by_role("textbox", name="Jump to")
    field.fill("2:5")
    field.press("ArrowLeft")
    page.wait_for_timeout(500)
    heading(page, "Neuron 1:7")
    field.press("Enter")
    heading(page, "Neuron 2:5")


def test_hovering_a_token_tells_its_value_and_marks_it_on_the_histogram(neurons, page):
    open_neuron(page, neurons)
    assert not page.locator(".mark.on").count()
    peak = page.locator(".token.peak").first
    peak.hover()
    page.locator(".mark.on").wait_for()
    value = page.locator(".example .value").first.inner_text()
    assert page.locator(".mark span").inner_text() == value
    assert value in page.locator(".tip.on").inner_text()
    mark, bars = page.locator(".mark.on").bounding_box(), page.locator(".plot").bounding_box()
    assert bars["x"] + bars["width"] / 2 < mark["x"] <= bars["x"] + bars["width"] + 2  # a top example lies right of the middle


def test_a_strip_can_be_walked_with_the_keys_without_leaving_the_neuron(neurons, page):
    open_neuron(page, neurons)
    page.locator(".token.peak").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(400)
    heading(page, "Neuron 1:7")
    focused = page.locator(".token:focus")
    assert focused.count() == 1
    assert "peak" not in focused.get_attribute("class").split()
    assert page.locator(".mark.on").count() == 1


def test_hostile_tokens_are_shown_as_text(neurons, page):
    open_neuron(page, neurons)
    assert page.locator(".token", has_text=HOSTILE).count() > 0
    assert page.locator("img[src='x']").count() == 0
    assert page.locator("[onerror]").count() == 0


def test_the_whole_window_is_shown_when_asked_for_and_that_is_in_the_address(neurons, page, new_page):
    open_neuron(page, neurons)
    before = page.locator(".token").count()
    page.get_by_role("radio", name="whole window").or_(page.get_by_role("button", name="whole window")).first.click()
    page.wait_for_function(
        f"() => [...document.querySelectorAll('*')].some(e => e.shadowRoot && e.shadowRoot.querySelectorAll('.token').length > {before})"
    )
    assert "context=" in page.url
    other = new_page()
    other.goto(page.url)
    other.locator(".token.outside").first.wait_for()


def test_a_click_on_a_layer_keeps_that_layer_and_a_click_on_a_point_opens_its_neuron(neurons, page):
    page.goto(f"{neurons.url}/neurons")
    page.get_by_text("Neurons 1 to 25 of 120.").wait_for()
    at_rest(page)
    page.locator(".js-plotly-plot .bars path").nth(1).click(force=True)
    page.get_by_text("of 40.").first.wait_for()
    assert "site=" in page.url


def test_a_box_drawn_in_the_scatter_narrows_the_table(neurons, page):
    page.goto(f"{neurons.url}/neurons")
    page.get_by_text("Neurons 1 to 25 of 120.").wait_for()
    at_rest(page)
    plot = page.locator(".js-plotly-plot").nth(1).locator(".nsewdrag")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] - 5, steps=8)
    page.mouse.up()
    page.get_by_text("Only the part drawn around").wait_for()
    assert "box=" in page.url
    low, high = (float(one) for one in re.search(r"box=([^,&%]+)(?:,|%2C)([^,&%]+)", page.url).groups())
    assert 0 < low < high < 1  # densities, not their logarithms
    page.get_by_role("button", name="Show all again").click()
    page.get_by_text("Neurons 1 to 25 of 120.").wait_for()
    assert "box=" not in page.url


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(neurons, new_page, axe, dark):
    page = new_page(dark=dark)
    page.goto(f"{neurons.url}/neurons?site=1")
    page.get_by_text("Neurons 1 to 25").wait_for()
    at_rest(page)
    assert not axe(page)
    open_neuron(page, neurons)
    assert not axe(page)
