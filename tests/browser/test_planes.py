"""The page of planes in a real browser: it grows while its job is at work, a click on a point looks closer, widths, accessibility."""

from __future__ import annotations

import json
import re
import urllib.parse

import pytest

from analysis.runner import run as execute
from analysis.sensitivity.matrix_sensitivity import MATRIX_SENSITIVITY, MatrixSensitivityConfig
from analysis.sensitivity.measured_gain import MEASURED_GAIN, MeasuredGainConfig
from store import Store
from tests.browser.conftest import at_rest, serving
from tests.browser.test_jobs import Bench
from tests.plane_run import learnt, make_plane
from ui.serve import ENTRY

PLOT = ".js-plotly-plot"
BEGUN = re.compile("interventions? begun, ")
NAMES = "magnitude, wanda, magnitude-2-of-4, ffn-topk, ffn-threshold, cats, teal, sink-window"


@pytest.fixture
def bench(tmp_path, tiny_llama, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = Bench(tmp_path)
    made.model = str(tiny_llama)
    made.text = tmp_path / "notes.txt"
    made.text.write_text("\n<|endoftext|>\n".join(" ".join(f"w{(i * k) % 38}" for i in range(400)) for k in range(1, 61)))
    yield made
    made.close()


@pytest.fixture
def measured(tmp_path):
    store = Store(tmp_path / "store")
    run = make_plane(store)
    beside(store)
    with serving(store.folder, ENTRY) as url:
        yield url, run


def beside(store):
    """Times of really smaller models, and parts pruned alone, of the same weights."""
    subject = learnt()
    execute(MEASURED_GAIN, {"model": subject}, MeasuredGainConfig(levels="0.5", repeats=2, n_tokens=16), store)
    units = MatrixSensitivityConfig(units="heads, ffn, sublayers, blocks", proxies="none", group_levels="0.5, 1", refine=0)
    execute(MATRIX_SENSITIVITY, {"model": subject}, units, store)


def levels_measured(page):
    return int(re.search(r"begun, (\d+) level", page.get_by_text(BEGUN).first.inner_text()).group(1))


def test_the_planes_grow_while_their_job_is_at_work_and_then_stand(bench, page):
    page.goto(f"{bench.url}/planes?" + urllib.parse.urlencode({"model": bench.model}))
    page.get_by_text("have not been compared yet").wait_for()
    levels = ", ".join(f"{level / 100:.2f}" for level in range(5, 100, 5))
    bench.desk.submit(
        "sparsity_plane", bench.model, data=str(bench.text),
        config={"interventions": NAMES, "levels": levels, "window": 16, "n_tokens": 4096, "batch_tokens": 64, "contexts": "64"},
    )  # fmt: skip
    page.reload()
    page.get_by_text(BEGUN).first.wait_for(timeout=120_000)
    seen = levels_measured(page)
    page.wait_for_function(f"() => +(/begun, (\\d+) level/.exec(document.body.innerText) ?? [0, 0])[1] > {seen}")
    page.locator(PLOT).nth(1).wait_for(timeout=120_000)  # prefill and decode grow side by side
    page.get_by_role("heading", name=re.compile("At 16 positions, where the loss was measured")).wait_for(timeout=300_000)
    at_rest(page)
    assert page.get_by_text(BEGUN).count() == 0 and "run=" in page.url


PLACE = """plot => {
    const trace = plot._fullData.find(one => one.meta != null), box = plot.getBoundingClientRect(), of = plot._fullLayout;
    const at = axis => axis._offset + axis.l2p(axis.d2l(trace[axis._name[0]][0]));
    return [box.left + at(of.xaxis), box.top + at(of.yaxis), trace.hovertext[0]];
}"""


def test_a_click_on_a_point_looks_at_its_intervention_and_level_and_the_address_keeps_them(measured, page):
    url, run = measured
    page.goto(f"{url}/planes?run={run.id}&interventions=sink-window")
    page.get_by_text("1 of 6 interventions").wait_for()
    at_rest(page)
    plot = page.locator(PLOT).first
    plot.scroll_into_view_if_needed()
    for _ in range(3):
        x, y, words = plot.evaluate(PLACE)
        page.mouse.move(x - 2, y)
        page.mouse.click(x, y)
        page.wait_for_timeout(3000)
        if "one=" in page.url:
            break
    level = float(re.search("level: ([0-9.]+)", words).group(1))
    page.get_by_text("acts on attention").first.wait_for()
    at_rest(page)
    assert "one=sink-window" in page.url
    page.reload()
    page.get_by_text("acts on attention").first.wait_for()
    at_rest(page)
    assert page.get_by_text(f"asked for: {100 * level:.1f} %").count() == 1


def test_filters_are_in_the_address_and_the_configuration_can_be_downloaded(measured, page):
    url, run = measured
    page.goto(f"{url}/planes?run={run.id}&one=wanda")
    page.get_by_text("acts on weights").first.wait_for()
    at_rest(page)
    page.get_by_role("button", name="weights", exact=True).click()
    page.get_by_text("4 of 6 interventions").wait_for()
    assert "target=weights" in page.url
    page.get_by_text("Take this configuration along").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("Download plane-wanda")).click()
    with open(download.value.path()) as file:
        assert json.load(file)["interventions"] == "wanda@0.6"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_a_phone(measured, new_page, axe, dark):
    url, run = measured
    page = new_page(dark=dark)
    faults = []
    for view in (f"/planes?run={run.id}&one=ffn-topk", "/planes?model=nobody"):
        page.goto(url + view)
        page.locator("h1").first.wait_for()
        page.wait_for_timeout(2500)
        at_rest(page)
        faults += [f"{view}: {fault}" for fault in axe(page)]
    assert not faults, "\n".join(faults)
    phone = new_page(width=420, height=900, dark=dark)
    phone.goto(f"{url}/planes?run={run.id}&one=ffn-topk")
    phone.get_by_role("heading", name="Drop points").wait_for()
    at_rest(phone)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 420


def test_times_layers_and_what_lowers_the_loss_stand_below_the_planes(measured, page):
    url, run = measured
    page.goto(f"{url}/planes?run={run.id}&layers_of=heads")
    for name in ("Cost and time", "Layer by layer", "What lowers the loss"):
        page.get_by_role("heading", name=name).wait_for()
    at_rest(page)
    page.get_by_text("of one of the 8 heads removed, in 2 layers").wait_for()
    page.get_by_role("radio", name="blocks").click()
    page.get_by_text("of one of the 2 blocks removed, in 2 layers").wait_for()
    assert "layers_of=blocks" in page.url
