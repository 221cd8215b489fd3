"""The pages of SAEs in a real browser: SAEs of the residual stream, of the MLP's and of the heads' output are browsed, latent by latent."""

import re

import pytest
from playwright.sync_api import expect

from analysis.neurons.neuron_activity import NEURON_ACTIVITY, NeuronActivityConfig
from analysis.runner import run
from store import Filter, Store
from tests.browser.conftest import PATIENCE, Dashboard, at_rest, serving
from tests.latent_run import HEADS, MLP, RESIDUAL, WINDOW, make_saes, make_smollm2, make_superposed, smollm2, subject
from tests.toy import HOSTILE

PLACES = {"residual": RESIDUAL, "mlp": MLP, "heads": HEADS}
POINT = """(chart) => {
  const trace = chart._fullData.find((one) => one.x.length), {xaxis, yaxis} = chart._fullLayout, box = chart.getBoundingClientRect();
  return [box.left + xaxis._offset + xaxis.d2p(trace.x[0]), box.top + yaxis._offset + yaxis.d2p(trace.y[0])];
}"""
"""Where the first point of a chart is on the page."""


@pytest.fixture(scope="module")
def saes(tmp_path_factory):
    """The dashboard on a store with an SAE at each of three places, trained, judged and looked into; one of a hostile model, and one of a
    model whose features are known."""
    folder = tmp_path_factory.mktemp("saes")
    store = Store(folder / "store")
    runs = {which: make_saes(store, place=place)[0] for which, place in PLACES.items()}
    runs["hostile"] = make_saes(store, name=HOSTILE, seed=1)[0]
    runs["toy"] = make_superposed(store)
    runs["smollm2"] = make_smollm2(store, smollm2(), "blocks.15.hook_mlp_out")[0]
    runs["neurons"] = run(NEURON_ACTIVITY, {"model": subject()}, NeuronActivityConfig(window=WINDOW), store)
    with serving(store.folder) as url:
        yield Dashboard(url, store, runs)


def open_latents(page, saes, which="residual", more=""):
    page.goto(f"{saes.url}/latents?run={saes.runs[which].id}{more}")
    page.get_by_text(re.compile(r"^Latents 1 to \d+ of")).wait_for()
    page.locator(".js-plotly-plot").nth(4).wait_for()
    at_rest(page)


def open_latent(page, saes, which="residual", latent=0):
    page.goto(f"{saes.url}/latent?run={saes.runs[which].id}&latent={latent}")
    page.get_by_text("Where these numbers come from").wait_for()
    at_rest(page)


def often(saes, which="residual"):
    """The latent that is active most often."""
    run = next(run for run in saes.store.runs(slug="latent_examples") if saes.runs[which].id in run.provenance["facts"]["sae"])
    return run, int(saes.store.read(run, "latents").set_index("latent")["n_active"].idxmax())


def heading(page, text):
    page.get_by_role("heading", name=text, exact=True).wait_for()
    at_rest(page)


@pytest.mark.parametrize("which", list(PLACES))
def test_the_sae_of_each_place_is_browsed_from_its_overview_to_a_latent_and_the_next(saes, page, which):
    open_latents(page, saes, which)
    page.get_by_text(PLACES[which], exact=True).first.wait_for()
    assert page.get_by_test_id("stMetric").first.inner_text().startswith("CE difference")
    table = page.get_by_test_id("stDataFrame").filter(visible=True).first
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    page.mouse.click(box["x"] + 30, box["y"] + 52)
    heading(page, "Latent 0")
    page.get_by_role("button", name="Next").first.click()
    heading(page, "Latent 1")
    page.keyboard.press("ArrowLeft")
    heading(page, "Latent 0")
    for title in ("Tokens it writes", "Similar latents", "Neurons and heads that follow it"):
        page.get_by_role("heading", name=title).wait_for()
    assert page.get_by_role("heading", name="Fed by which heads, from where").count() == (which == "heads")


def test_an_sae_of_the_bundled_model_is_opened_and_its_examples_are_text(saes, page):
    page.goto(f"{saes.url}/latents?run={saes.runs['smollm2'].id}")
    page.get_by_text("blocks.15.hook_mlp_out", exact=True).first.wait_for()
    page.get_by_text(re.compile(r"^Latents 1 to 25 of 64")).wait_for()
    _, latent = often(saes, "smollm2")
    open_latent(page, saes, "smollm2", latent)
    heading(page, f"Latent {latent}")
    assert re.search(r"[A-Za-z]{3}", page.locator(".strip").first.inner_text())


def test_a_point_of_the_scatter_opens_its_latent_and_a_copied_link_shows_the_same(saes, page, new_page):
    open_latents(page, saes)
    chart = page.locator(".js-plotly-plot").nth(2)
    chart.scroll_into_view_if_needed()
    at_rest(page)
    x, y = chart.evaluate(POINT)
    page.mouse.move(x - 2, y)
    page.mouse.click(x, y)
    page.get_by_role("heading", name=re.compile(r"^Latent \d+$")).wait_for(timeout=PATIENCE)
    at_rest(page)
    name = page.locator("h1").inner_text()
    page.get_by_role("button", name=re.compile("Link to this view")).click()
    link = page.locator("[data-testid=stPopoverBody] code").filter(has_text=re.compile("^http")).inner_text().strip()
    other = new_page()
    other.goto(link)
    heading(other, name)


def test_pointing_at_a_token_tells_its_value_and_marks_the_histogram(saes, page):
    run, latent = often(saes)
    open_latent(page, saes, latent=latent)
    token = page.locator(".strip .token").first
    token.wait_for()
    peak = page.locator(".strip .token.peak").first
    peak.scroll_into_view_if_needed()
    peak.hover()
    page.locator(".tip.on").wait_for()
    page.locator(".mark.on").first.wait_for()
    stored = saes.store.read(run, "latents").set_index("latent")
    assert page.get_by_text(f"Active on {stored.loc[latent, 'n_active']:,} of").count() == 1


def test_known_features_that_were_found_are_shown(saes, page):
    page.goto(f"{saes.url}/latents?run={saes.runs['toy'].id}")
    said = page.get_by_text(re.compile(r"^Known features: mean max cosine"))
    said.wait_for()
    assert float(re.search(r"cosine (0\.\d+)", said.inner_text())[1]) > 0.9
    page.get_by_text("Largest cosine of each of 48 known features with a decoder direction", exact=False).wait_for()


def test_a_neuron_leads_to_a_latent_that_follows_it_and_back(saes, page):
    found, _ = often(saes)
    partners = saes.store.read(found, "latent_partners", where=[Filter("kind", "=", "neuron"), Filter("above_noise", "=", True)])
    best = partners.sort_values("correlation", ascending=False).iloc[0]
    hook = f"layer={best['layer']}&hook={best['hook_name']}&neuron={best['unit']}"
    page.goto(f"{saes.url}/neuron?run={saes.runs['neurons'].id}&{hook}")
    page.get_by_role("heading", name="Latents that follow it").wait_for()
    at_rest(page)
    page.get_by_test_id("stPageLink").filter(has_text=f"Latent {best['latent']} · {best['correlation']:.2f}").first.click()
    heading(page, f"Latent {best['latent']}")
    page.get_by_text(re.compile("^Pearson correlation over")).wait_for()
    # Between the numbers stands a joiner that keeps the colon from being read as Markdown.
    page.get_by_test_id("stPageLink").filter(has_text=re.compile(rf"^Neuron {best['layer']}\W+{best['unit']} ·")).click()
    heading(page, f"Neuron {best['layer']}:{best['unit']}")


def test_a_latent_leads_to_a_similar_one(saes, page):
    _, latent = often(saes)
    open_latent(page, saes, latent=latent)
    link = page.get_by_test_id("stPageLink").filter(has_text=re.compile(r"^Latent \d+ ·")).first
    other = re.match(r"Latent \d+", link.inner_text())[0]
    link.click()
    heading(page, other)


def test_a_label_that_is_written_is_there_when_the_page_is_opened_again(saes, page):
    open_latent(page, saes, latent=7)
    box = page.get_by_label("Label", exact=True)
    box.fill("<b>planets</b>")
    box.press("Enter")
    page.get_by_text(re.compile("^Written ")).wait_for()
    page.reload()
    page.get_by_text(re.compile("^Written ")).wait_for()
    expect(page.get_by_label("Label", exact=True)).to_have_value("<b>planets</b>", timeout=PATIENCE)
    page.get_by_role("button", name="1 label").click()
    with page.expect_download() as found:
        page.get_by_role("button", name="JSON").click()
    assert "<b>planets</b>" in found.value.path().read_text()


def test_another_sae_is_chosen_from_the_list(saes, page):
    open_latents(page, saes)
    page.get_by_label("SAE", exact=False).first.click()
    page.get_by_role("option").filter(has_text=MLP).click()
    page.wait_for_url(f"**run={saes.runs['mlp'].id}*")
    page.get_by_text(MLP, exact=True).first.wait_for()


def test_a_run_of_training_leads_to_its_latents(saes, page):
    page.goto(f"{saes.url}/run?run={saes.runs['mlp'].id}")
    page.get_by_test_id("stPageLink").filter(has_text="Browse its latents").click()
    page.get_by_text(MLP, exact=True).first.wait_for()
    assert saes.runs["mlp"].id in page.url


def test_a_name_or_a_token_with_html_makes_no_element(saes, page):
    open_latents(page, saes, "hostile")
    assert page.locator("img[src='x']").count() == 0
    open_latent(page, saes, "hostile", often(saes, "hostile")[1])
    assert page.locator("img[src='x']").count() == 0 and page.locator("[onerror]").count() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(saes, new_page, axe, dark):
    page = new_page(dark=dark)
    open_latents(page, saes, "heads")
    assert not axe(page)
    open_latent(page, saes, "heads", often(saes, "heads")[1])
    assert not axe(page)


def test_a_narrow_window_needs_no_scrolling_sideways(saes, new_page):
    page = new_page(width=420, height=900)
    open_latents(page, saes, "heads")
    assert page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollWidth") <= 422
    open_latent(page, saes, "heads", often(saes, "heads")[1])
    assert page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollWidth") <= 422
