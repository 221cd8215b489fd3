"""The Data page in a real browser: a query is typed, drawn, exported, stopped; a unit is embedded in another site's page."""

import http.server
import re
import threading
import urllib.parse

import pytest

from store import Store
from tests.browser.conftest import Dashboard, at_rest, serving
from tests.unit_runs import make_units
from ui.serve import EMBED_VARIABLE

FACES = "SELECT layer, face, n, run FROM layers WHERE slug = 'toy_coins' ORDER BY layer, face"
ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"


def open_data(page, dashboard, **query):
    page.goto(f"{dashboard.url}/data?{urllib.parse.urlencode(query)}")
    page.get_by_role("heading", name="Data", exact=True).wait_for()
    page.get_by_role("textbox", name="SQL").wait_for()
    at_rest(page)


def test_a_query_is_typed_run_by_the_keyboard_and_its_address_shows_the_same_elsewhere(dashboard, page, new_page):
    open_data(page, dashboard)
    box = page.get_by_role("textbox", name="SQL")
    box.fill(FACES)
    box.press("Control+Enter")
    page.get_by_text(re.compile(r"^\d+ rows of 4 columns")).wait_for()
    other = new_page()
    other.goto(page.url)
    other.get_by_text(re.compile(r"^\d+ rows of 4 columns")).wait_for()
    with other.expect_download() as download:
        other.get_by_role("button", name="Get these rows").click()
        other.get_by_role("button", name=re.compile("^CSV, ")).click()
    assert download.value.path().read_text().splitlines()[0] == "layer,face,n,run"


def test_an_answer_becomes_a_figure_that_exports_like_any_other(dashboard, page):
    run = dashboard.runs["toy"].id
    open_data(page, dashboard, sql=f"SELECT layer, face, n FROM layers WHERE run = '{run}' ORDER BY ALL", x="layer", y="n", by="face")
    page.get_by_text(re.compile(r"^12 rows of 3 columns")).wait_for()
    page.get_by_role("radio", name="stacked bars").or_(page.get_by_role("button", name="stacked bars")).first.click()
    page.locator(".js-plotly-plot .bars path").first.wait_for()
    page.get_by_text(re.compile("n over layer, by face; n = 12 rows")).wait_for()
    at_rest(page)
    page.get_by_role("button", name=re.compile("^Export")).first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("^SVG")).first.click()
    assert b"SELECT layer, face, n FROM layers" in download.value.path().read_bytes()


def test_a_query_at_work_is_stopped_by_its_button_and_the_page_answers_the_next(dashboard, page):
    page.goto(f"{dashboard.url}/data?{urllib.parse.urlencode({'sql': ENDLESS})}")
    page.get_by_text(re.compile("At work for")).wait_for()
    page.get_by_role("button", name="Stop the query").click()
    page.get_by_text("got stopped; run it again").wait_for()
    box = page.get_by_role("textbox", name="SQL")
    box.fill("SELECT 6 * 7 AS answer")
    box.press("Control+Enter")
    page.get_by_text(re.compile(r"^1 row of 1 column")).wait_for()


def test_a_query_that_never_ends_is_ended_by_the_time_limit(dashboard, page):
    page.goto(f"{dashboard.url}/data?{urllib.parse.urlencode({'sql': ENDLESS})}")
    page.get_by_text("must be answered within 20 s").wait_for(timeout=60_000)


def test_a_hostile_answer_makes_no_element(dashboard, page):
    hostile = dashboard.runs["hostile"].model
    open_data(page, dashboard, sql=f"SELECT '{hostile}' AS \"{hostile}\", 1 AS n", chart="bars", title=hostile)
    page.locator(".js-plotly-plot").first.wait_for()
    at_rest(page)
    assert page.locator("img[src='x']").count() == 0 and page.locator("[onerror]").count() == 0


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_a_phone(dashboard, new_page, axe, dark):
    faults = []
    for query in ({"sql": FACES, "chart": "stacked bars", "by": "face", "y": "n"}, {"sql": "SELECT gone FROM layers"}, {"find": "coins"}):
        page = new_page(dark=dark, width=420 if dark else 1440)
        open_data(page, dashboard, **query)
        faults += [f"{query}: {fault}" for fault in axe(page)]
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert not faults, "\n".join(faults)


# ---------------------------------------------------------------------------------------------------------------------
# Embedding


@pytest.fixture(scope="module")
def site():
    """Another site, on a port of its own; `pages` is what it serves."""
    pages = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = "<p>no picture</p>" if self.path == "/favicon.ico" else pages.get(self.path)
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", pages
    server.shutdown()


@pytest.fixture(scope="module")
def units(tmp_path_factory, site):
    """The dashboard on a store with a unit of every kind, which that site may embed."""
    folder = tmp_path_factory.mktemp("units")
    store = Store(folder / "store")
    runs = make_units(store, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(EMBED_VARIABLE, site[0])
        with serving(store.folder) as url:
            yield Dashboard(url, store, runs)


def address_of(units, kind, **more):
    page, run, rest = units.runs[kind]
    return f"{units.url}/{page}?{urllib.parse.urlencode({'run': run.id, **rest, **more})}"


HEADING = {"neuron": "Neuron 1:7", "head": re.compile(r"^Head \d+:1$"), "tensor": re.compile("weight|embed"), "latent": "Latent 1"}


@pytest.mark.parametrize("kind", ["neuron", "head", "tensor", "latent"])
def test_a_unit_is_shown_within_a_page_of_another_site_without_the_menus(units, site, page, kind):
    page.goto(address_of(units, kind))
    page.get_by_role("heading", level=1, name=HEADING[kind]).wait_for()
    at_rest(page)
    page.get_by_role("button", name=re.compile("Link to this view")).click()
    code = page.locator("[data-testid=stPopoverBody] code").filter(has_text="<iframe").inner_text()
    site[1][f"/{kind}"] = f"<!doctype html><html lang=en><title>notes</title><h1>My notes</h1>{code}"
    page.goto(f"{site[0]}/{kind}")
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", level=1, name=HEADING[kind]).wait_for()
    frame.get_by_role("link", name="Open in Sparsescope").wait_for()
    assert frame.get_by_test_id("stSidebar").count() == 0
    assert frame.get_by_test_id("stHeader").get_by_role("button").filter(visible=True).count() == 0
    assert frame.get_by_label("Label", exact=True).count() == 0
    with page.context.expect_page() as opened:
        frame.get_by_role("link", name="Open in Sparsescope").click()
    opened.value.get_by_test_id("stSidebar").wait_for()


def test_the_next_unit_within_a_frame_is_still_without_the_menus(units, site, page):
    site[1]["/next"] = f'<iframe src="{address_of(units, "neuron", embed="true")}" title="x" width="1200" height="800"></iframe>'
    page.goto(f"{site[0]}/next")
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", level=1, name="Neuron 1:7").wait_for()
    frame.get_by_role("button", name="Next").first.click()
    frame.get_by_role("heading", level=1, name="Neuron 1:8").wait_for()
    assert frame.get_by_test_id("stSidebar").count() == 0


def test_a_site_that_was_not_named_may_not_embed_it(dashboard, site, new_page):
    page = new_page(expect=("frame-ancestors", "X-Frame-Options", "Refused to frame", "Framing", "chrome-error"))
    site[1]["/foreign"] = f'<iframe src="{dashboard.url}/data?embed=true" title="x"></iframe>'
    page.goto(f"{site[0]}/foreign")
    page.wait_for_timeout(1500)
    assert page.frame_locator("iframe").get_by_role("heading", name="Data").count() == 0
