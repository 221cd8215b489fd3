"""The first walk through the dashboard, in a real browser."""

import re
import urllib.error
import urllib.parse
import urllib.request

import pytest

from tests.browser.conftest import at_rest, serving
from tests.toy import HOSTILE


def test_the_walk_from_home_to_a_row_of_a_table_and_back_by_its_address(dashboard, page, new_page):
    page.goto(dashboard.url)
    page.get_by_role("heading", name="Which parts of this model matter?").wait_for()
    page.get_by_role("link", name=re.compile("Toy coins.*toy-text")).first.click()
    page.get_by_role("heading", name="Toy coins", exact=True).wait_for()
    assert "run=" in page.url

    page.locator(".js-plotly-plot .bars path").first.wait_for()
    assert page.locator(".js-plotly-plot").count() == 2
    page.get_by_text("Share of coins showing each face").first.wait_for()

    page.goto(f"{dashboard.url}/run?run={dashboard.runs['toy'].id}")
    page.get_by_role("radio", name="coins").or_(page.get_by_role("button", name="coins")).first.click()
    page.get_by_text("Rows 1 to 25 of 240 rows.").wait_for()
    page.get_by_role("button", name=re.compile("next page", re.I)).click()
    page.get_by_text("Rows 26 to 50 of 240 rows.").wait_for()
    assert "table=coins" in page.url
    assert "page=2" in page.url

    other = new_page()
    other.goto(page.url)
    other.get_by_text("Rows 26 to 50 of 240 rows.").wait_for()


def test_the_copied_link_opens_the_same_view(dashboard, page, new_page):
    page.goto(f"{dashboard.url}/run?run={dashboard.runs['toy'].id}&table=coins&sort=weight&page=3")
    page.get_by_text("Rows 51 to 75 of 240 rows.").wait_for()
    page.get_by_role("button", name=re.compile("Link to this view")).click()
    link = page.locator("[data-testid=stPopoverBody] code").filter(has_text="http").first.inner_text().strip()
    other = new_page()
    other.goto(link)
    other.get_by_text("Rows 51 to 75 of 240 rows.").wait_for()


def test_a_hostile_model_name_is_shown_as_text_everywhere(dashboard, page):
    page.goto(dashboard.url)
    page.get_by_role("heading", name=HOSTILE).wait_for()
    for view in ("runs", f"run?run={dashboard.runs['hostile'].id}", "run?run=" + urllib.parse.quote(HOSTILE)):
        page.goto(f"{dashboard.url}/{view}")
        page.get_by_text(HOSTILE).first.wait_for()
        at_rest(page)
        assert page.locator("img[src='x']").count() == 0
        assert page.locator("[onerror]").count() == 0


def test_a_hostile_name_in_a_link_stays_text(dashboard, page):
    page.goto(f"{dashboard.url}/runs")
    page.get_by_role("link", name=re.compile(re.escape(HOSTILE))).wait_for()
    assert page.locator("a[href*=evil]").count() == 0


@pytest.mark.parametrize(("suffix", "start"), [("PDF", b"%PDF"), ("SVG", b"<?xml"), ("PNG", b"\x89PNG"), ("HTML", b"<!"), ("CSV", b"#")])
def test_a_figure_can_be_taken_in_each_format(dashboard, page, suffix, start):
    page.goto(f"{dashboard.url}/run?run={dashboard.runs['toy'].id}")
    page.get_by_role("button", name=re.compile("Export")).first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile(f"^{suffix}, ")).click()
    path = download.value.path()
    assert download.value.suggested_filename == f"toy_coins-faces.{suffix.lower()}"
    with open(path, "rb") as file:
        assert file.read(len(start)) == start


def test_every_answer_carries_the_security_headers(dashboard):
    for path in ("/", "/run", "/_stcore/health", "/nothing-here.js"):
        headers = _get(dashboard.url + path).headers
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'self'" in policy
        assert "http" not in policy.replace("'self'", "")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "SAMEORIGIN"


def test_a_request_for_another_host_name_is_refused(dashboard):
    assert _get(dashboard.url + "/", host="localhost").status == 200
    assert _get(dashboard.url + "/", host="evil.example").status == 400
    assert _get(dashboard.url + "/_stcore/stream", host="evil.example").status == 400


def _get(url, host=None):
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        return urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        return error


def test_an_inline_script_of_a_page_is_refused(dashboard, new_page):
    page = new_page(expect=("Content Security Policy",))
    page.goto(dashboard.url)
    page.get_by_role("heading", name="Which parts").wait_for()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', `<img src='data:,' onerror='window.ran = true'>`)")
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None


def test_an_empty_store_offers_one_clear_first_action(empty_dashboard, page):
    page.goto(empty_dashboard.url)
    page.get_by_text("Nothing has been measured yet").wait_for()
    assert "python -m analysis run neuron_activity --model smollm2" in page.locator("code").first.inner_text()


def test_there_is_no_deploy_button(dashboard, page):
    page.goto(dashboard.url)
    page.get_by_role("heading", name="Which parts").wait_for()
    at_rest(page)
    assert page.get_by_text("Deploy").count() == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", ["/", "/runs", "/run", "/run?run={toy}&table=coins"])
def test_axe_finds_nothing_serious(dashboard, new_page, axe, view, dark):
    page = new_page(dark=dark)
    page.goto(dashboard.url + view.format(toy=dashboard.runs["toy"].id))
    page.locator("h1").first.wait_for()
    if "table" in view:
        page.get_by_text("Rows 1 to 25").wait_for()
    at_rest(page)
    assert not axe(page)


def test_a_deep_link_is_the_first_thing_a_fresh_server_is_asked(dashboard, page):
    with serving(dashboard.store.folder) as url:
        page.goto(f"{url}/run?run={dashboard.runs['toy'].id}")
        page.get_by_role("heading", name="Toy coins", exact=True).wait_for()
        names = [text.split()[-1] for text in page.locator("[data-testid=stSidebarNavLink]").all_inner_texts()]
        first, look = ["Home", "analysis", "Checkpoint", "Playground"], ["Weights", "Neurons", "Attention", "Latents", "Sensitivity"]
        assert names == [*first, *look, "Planes", "Compare", "Report", "Gallery", "Data", "Runs"]
        at_rest(page)
        page.goto("about:blank")  # before its server goes


def test_a_fault_in_a_page_is_one_sentence_without_inner_details(dashboard, page):
    page.goto(f"{dashboard.url}/run?run={dashboard.runs['broken'].id}")
    page.get_by_text("This page stopped because of a fault in Sparsescope itself").wait_for()
    at_rest(page)
    shown = page.locator("[data-testid=stMain]").inner_text()
    for detail in ("ZeroDivisionError", "inner detail", "Traceback", "Cloud"):
        assert detail not in shown
