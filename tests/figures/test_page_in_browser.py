"""The exported page in a real browser: it asks the network for nothing, runs no name, shows names as text, has no cloud button."""

import shutil

import pytest

from figures.export import export

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield made
        made.close()


def test_a_page_with_hostile_names_is_inert(browser, hostile_specs, provenance, tmp_path):
    for kind, spec in hostile_specs.items():
        path = export(spec, tmp_path / f"{kind}.html", provenance)
        page = browser.new_page()
        asked: list[str] = []
        spoken: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("dialog", lambda dialog, spoken=spoken: (spoken.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error, spoken=spoken: spoken.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("#figure .main-svg .xtick text, #figure .treemaplayer .slice")
        assert asked == [path.as_uri()]
        assert spoken == []
        assert page.locator("#figure img, #figure b, #figure .main-svg a").count() == 0
        drawn = " ".join(page.locator("#figure .main-svg text").all_text_contents())
        assert "<img src=x" in drawn and ("$x$" in drawn or kind == "line")
        buttons = page.locator(".modebar-btn").evaluate_all("nodes => nodes.map(n => n.dataset.title || n.getAttribute('aria-label'))")
        assert "Download plot" in buttons
        assert not any("hare" in b or "loud" in b for b in buttons)
        page.close()


def test_every_kind_draws_its_marks(browser, specs, kind, provenance, tmp_path):
    marks = {"stacked_bars": ".bars .point", "bars": ".bars .point", "histogram": ".bars .point", "line": ".scatterlayer .point"}
    marks |= {"scatter": ".scatterlayer .point", "heatmap": ".heatmaplayer image", "treemap": ".treemaplayer .slice"}
    counts = {"stacked_bars": 15, "bars": 4, "histogram": 6, "line": 3, "scatter": 3, "heatmap": 1, "treemap": 8}
    page = browser.new_page()
    page.goto(export(specs[kind], tmp_path / "figure.html", provenance).as_uri())
    page.wait_for_selector(marks[kind], state="attached")
    assert page.locator(marks[kind]).count() == counts[kind]
    page.close()
