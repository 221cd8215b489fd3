"""The gallery in a real browser: a bundle is ticked, made, downloaded and drawn again; the menu at a figure; widths, accessibility."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile

import pytest

from tests.browser.conftest import at_rest


def open_gallery(page, dashboard, **query):
    page.goto(
        f"{dashboard.url}/gallery?" + "&".join(f"{name}={value}" for name, value in {"run": dashboard.runs["toy"].id, **query}.items())
    )
    page.get_by_role("heading", name="Tables").wait_for()
    at_rest(page)


def download(page, name):
    with page.expect_download() as found:
        page.get_by_role("button", name=name).click()
    return found.value


def test_a_bundle_is_ticked_made_and_downloaded_and_its_script_draws(dashboard, page, tmp_path):
    open_gallery(page, dashboard)
    page.get_by_text("layers · 12 rows").click()
    page.get_by_role("button", name="Make a zip of 3 items").wait_for()
    assert "items=faces%2Cweights%2Ctable-layers" in page.url
    page.get_by_role("button", name="Make a zip of 3 items").click()
    page.get_by_role("button", name=re.compile("Download the zip")).wait_for()
    got = download(page, re.compile("Download the zip"))
    with zipfile.ZipFile(got.path()) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    assert {"faces/figure.pdf", "faces/make_figure.py", "table-layers/data.csv", "references.bib", "provenance.json", "README.txt"} <= names
    again = subprocess.run([sys.executable, "-I", tmp_path / "faces" / "make_figure.py"], capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "")
    assert (tmp_path / "faces" / "redrawn.pdf").read_bytes().startswith(b"%PDF-")


def test_the_address_brings_ticks_place_and_formats_back(dashboard, page):
    open_gallery(page, dashboard, items="weights", preset="icml-single", formats="svg", title="true")
    page.get_by_role("button", name="Make a zip of 1 item").wait_for()
    assert not page.get_by_text("--preset icml-single").is_visible(), "the command is folded away"
    assert page.get_by_role("checkbox", name="layers · 12 rows", exact=True).count() == 1, "said as it is shown"
    page.get_by_text("The same on the command line").click()
    page.get_by_text(re.compile("--preset icml-single --formats svg")).wait_for()
    assert page.get_by_role("checkbox", name="Heads and tails per layer", exact=True).is_checked() is False
    assert page.get_by_role("checkbox", name="How heavy the coins are").is_checked()
    assert page.get_by_role("img", name=re.compile("Histogram of the weights of")).count() == 1


def test_the_menu_at_a_figure_gives_a_bundle_for_the_place_chosen(dashboard, page):
    page.goto(f"{dashboard.url}/run?run={dashboard.runs['toy'].id}")
    page.get_by_role("button", name="Export").first.click()
    page.get_by_role("button", name="Everything, one zip").wait_for()
    at_rest(page)
    got = download(page, "Everything, one zip")
    assert got.suggested_filename == "toy_coins-faces.zip"
    with zipfile.ZipFile(got.path()) as archive:
        assert {"figure.pdf", "data.csv", "make_figure.py", "caption.tex", "references.bib"} <= set(archive.namelist())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_a_phone(dashboard, new_page, axe, dark):
    page = new_page(dark=dark)
    open_gallery(page, dashboard)
    assert not axe(page)
    phone = new_page(width=420, height=900, dark=dark)
    open_gallery(phone, dashboard)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 420


def test_ticks_and_the_zip_can_be_had_by_keyboard_alone(dashboard, page):
    open_gallery(page, dashboard)
    box = page.get_by_role("checkbox", name="Heads and tails per layer", exact=True)
    box.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Make a zip of 1 item").wait_for()
    page.get_by_role("button", name="Make a zip of 1 item").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name=re.compile("Download the zip")).wait_for()
