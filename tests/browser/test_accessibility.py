"""Every page of the app, with something on it: axe finds nothing serious, and the keyboard alone reaches what the page is for.

axe looks at everything but the side bar (`conftest.axe`), which is Streamlit's own, and at nothing else less. A page that is added to
`app.py` must be added here.
"""

import re
import urllib.parse

import pytest

from store import Store
from tests.browser.conftest import Dashboard, at_rest, serving
from tests.plane_run import make_plane
from tests.sensitivity_run import make_digits
from tests.toy import make_run
from tests.unit_runs import make_units
from ui.serve import ROOT

SERVED = ("", *re.findall(r'url_path="([\w-]+)"', (ROOT / "app.py").read_text()))
"""The address of every page; home has none."""
MAIN = {
    "": ("link", "Start an analysis"),
    "start": ("combobox", "Question"),
    "checkpoint": ("textbox", "Path on the server, or hub id"),
    "weights": ("combobox", "Model"),
    "neurons": ("combobox", "Model and data"),
    "attention": ("combobox", "Model and data"),
    "latents": ("combobox", "SAE"),
    "sensitivity": ("combobox", "Model and data"),
    "planes": ("combobox", "Model and data"),
    "playground": ("textbox", "Prompt"),
    "compare": ("combobox", "First"),
    "report": ("combobox", "Model"),
    "gallery": ("combobox", "Run"),
    "runs": ("combobox", "Analysis"),
    "data": ("textbox", "SQL"),
    "job": ("link", "Jobs and runs"),
    "run": ("button", "Link to this view"),
    "neuron": ("textbox", "Label"),
    "head": ("textbox", "Label"),
    "latent": ("textbox", "Label"),
    "tensor": ("textbox", "Label"),
}
"""By page, the control it is for, as a screen reader names it: where there are several, the first."""
TABS = 60
"""Presses of the Tab key, from the top of the page, within which it must be reached."""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The dashboard on a store in which every page has something to show."""
    folder = tmp_path_factory.mktemp("accessible")
    store = Store(folder / "store")
    runs = make_units(store, folder)
    toy = make_run(store)
    make_digits(store)
    make_plane(store)
    queries = {kind: {"run": run.id, **more} for kind, (_, run, more) in runs.items()}
    queries |= {"run": {"run": toy.id}, "gallery": {"run": toy.id}, "data": {"sql": "SELECT * FROM runs"}}
    with serving(store.folder) as url:
        yield Dashboard(url, store, queries)


def open_page(page, app, name):
    page.goto(f"{app.url}/{name}?{urllib.parse.urlencode(app.runs.get(name, {}))}")
    page.locator("[data-testid=stMain] h1").first.wait_for()
    at_rest(page)


def test_every_page_of_the_app_is_looked_at_here():
    assert set(SERVED) == set(MAIN)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", MAIN, ids=[name or "home" for name in MAIN])
def test_axe_finds_nothing_serious(app, new_page, axe, name, dark):
    page = new_page(dark=dark)
    open_page(page, app, name)
    faults = axe(page)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", MAIN, ids=[name or "home" for name in MAIN])
def test_the_keyboard_alone_reaches_what_the_page_is_for(app, page, name):
    open_page(page, app, name)
    role, words = MAIN[name]
    wanted = page.get_by_test_id("stMain").get_by_role(role, name=words).first
    wanted.wait_for()
    passed = []
    for _ in range(TABS):
        page.keyboard.press("Tab")
        if wanted.evaluate("one => one === document.activeElement || one.contains(document.activeElement)"):
            assert shows_focus(page, wanted), f"whoever uses the keyboard does not see that {words} is reached"
            return
        passed.append(page.evaluate(NAMED))
    raise AssertionError(f"{words} was not reached, only {passed}")


NAMED = "() => (document.activeElement.getAttribute('aria-label') || document.activeElement.innerText || '').slice(0, 40)"
LOOKS = """() => {
  if (!window.around) {
    window.around = [];
    for (let e = document.activeElement; e && window.around.length < 5; e = e.parentElement) window.around.push(e);
  }
  const style = (e) => getComputedStyle(e);
  return JSON.stringify(window.around.map((e) => [style(e).outline, style(e).boxShadow, style(e).borderColor, style(e).backgroundColor]));
}"""
"""How the control that has the focus at the first call, and the frames around it, look now."""


def shows_focus(page, control):
    at_rest(page)  # a part of the page that is drawn anew in between would look the same without the focus
    if not control.evaluate("one => one.contains(document.activeElement)"):
        control.focus()
    page.wait_for_timeout(400)
    focused = page.evaluate(LOOKS)
    page.evaluate("() => document.activeElement.blur()")
    page.wait_for_timeout(400)  # the change is a transition
    return page.evaluate(LOOKS) != focused
