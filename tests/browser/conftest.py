"""The real server on a free port with a store of its own, and a real browser on it."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError

from store import Store
from tests.toy import BROKEN, HOSTILE, make_run
from ui.serve import ROOT, is_up, serve_command

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
INSTALL = "browser tests need chromium; install it with `make browser` (Debian and Ubuntu), or name it in $CHROMIUM."
TOY_SERVER = Path(__file__).parent / "toy_server.py"
PATIENCE = 30_000
"""Milliseconds to wait for something to appear; a machine at work on other tests can be slow."""
PAGES = (
    *("run", "runs", "start", "checkpoint", "job", "gallery", "neurons", "neuron", "weights", "tensor", "sensitivity", "planes"),
    *("attention", "head", "latents", "latent", "compare", "report", "data", "playground"),
)
PROBES = tuple(f"/{page}/_stcore/{what}" for page in PAGES for what in ("host-config", "health"))
"""On a deep link, Streamlit's own page first asks whether the server lives below that path; the answer 404 is right."""


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.fspath).parents:
            item.add_marker(pytest.mark.browser)
            if not Path(CHROMIUM).exists():
                item.add_marker(pytest.mark.skip(reason=INSTALL))


@dataclass
class Dashboard:
    """A running server."""

    url: str
    store: Store
    runs: dict


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(folder, log, entry=TOY_SERVER):
    """Start the server, wait until it answers; returns the process and its address."""
    port = free_port()
    argv, env = serve_command(folder, port, folders=[Path(folder).parent], entry=entry)
    began = time.monotonic()
    process = subprocess.Popen(argv, env=env, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    while not is_up(url):
        if process.poll() is not None or time.monotonic() - began > 60:
            process.kill()
            log.seek(0)
            raise RuntimeError(f"the server did not start:\n{log.read()}")
        time.sleep(0.02)
    return process, url


def stop(process):
    """Ask a server to leave, as Ctrl+C does, and wait until it has."""
    process.terminate()
    try:
        process.wait(PATIENCE / 1000)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@contextmanager
def serving(folder, entry=TOY_SERVER):
    """The address of a server on this store, for as long as the block lasts."""
    with tempfile.TemporaryFile("w+") as log:
        process, url = start(folder, log, entry)
        try:
            yield url
        finally:
            stop(process)


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory):
    """The dashboard on a store with four runs, one of a model with a hostile name, one of an analysis with a fault."""
    folder = tmp_path_factory.mktemp("dashboard")
    store = Store(folder / "store")
    runs = {
        "toy": make_run(store),
        "small": make_run(store, n_layers=2, n_coins=10),
        "hostile": make_run(store, name=HOSTILE),
        "broken": make_run(store, analysis=BROKEN),
    }
    with serving(store.folder) as url:
        yield Dashboard(url, store, runs)


@pytest.fixture(scope="session")
def empty_dashboard(tmp_path_factory):
    """The dashboard on an empty store."""
    folder = tmp_path_factory.mktemp("empty")
    with serving(folder / "store") as url:
        yield Dashboard(url, Store(folder / "store"), {})


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    """Makes pages that note every complaint of the console and every request to a foreign host; the test fails on any."""
    contexts, complaints = [], []

    def make(width=1440, height=900, dark=False, expect=()):
        rights = ["clipboard-read", "clipboard-write"]
        scheme = "dark" if dark else "light"
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, permissions=rights)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()

        def complain(words):
            if not any(one in words for one in (*expect, *PROBES)):
                complaints.append(words)

        page.on("console", lambda m: complain(f"console: {m.text} ({m.location['url']})") if m.type == "error" else None)
        page.on("pageerror", lambda e: complain(f"page error: {e}"))
        page.on("dialog", lambda d: (complaints.append(f"a dialog opened: {d.message}"), d.dismiss()))
        page.on("request", lambda r: None if is_own(r.url) else complaints.append(f"foreign request: {r.url}"))
        contexts.append(context)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not complaints, "\n".join(complaints)


def is_own(url):
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "blob:", "data:"))


@pytest.fixture
def page(new_page):
    return new_page()


@pytest.fixture
def axe():
    """Asks axe for serious faults of accessibility, without those that Streamlit's own side bar has on every page."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("accessibility tests need axe; install it with pip install -r requirements-dev.txt.")
    script = Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8")

    def faults(page):
        page.evaluate(script)
        options = json.dumps({"resultTypes": ["violations"], "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        found = page.evaluate(f"axe.run({{exclude: [['[data-testid=stSidebar]']]}}, {options})")["violations"]
        return [
            f"{one['id']} ({one['impact']}): {node['html'][:300]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    return faults


AT_REST = """() => {
    const app = document.querySelector('[data-testid=stApp]');
    const busy = !app || app.dataset.testScriptState !== 'notRunning' || document.querySelector('[data-testid=stSkeleton]');
    const charts = [...document.querySelectorAll('.js-plotly-plot .nsewdrag')].map((one) => one.getBoundingClientRect());
    const seen = JSON.stringify([document.body.scrollHeight, location.href, charts]);
    if (busy || seen !== window.seenLast) {
        window.seenLast = seen;
        window.seenSince = performance.now();
    }
    return !busy && performance.now() - window.seenSince > 300;
}"""
"""True once no script has run and nothing has moved for 300 ms; asked again with every frame."""


def at_rest(page):
    """Wait until the page has stopped working, and its charts have found their places."""
    page.wait_for_function(AT_REST)


def click_cell(page, chart, across, down, then):
    """Click a chart at these shares of its width and height until `then` shows: a click while the page is drawn anew is lost."""
    chart.scroll_into_view_if_needed()
    for _ in range(3):
        at_rest(page)
        area = chart.locator(".nsewdrag").first.bounding_box()
        x, y = area["x"] + area["width"] * across, area["y"] + area["height"] * down
        page.mouse.move(x - 2, y)
        page.mouse.click(x, y)
        try:
            then.wait_for(timeout=PATIENCE / 3)
        except TimeoutError:
            continue
        return
    raise AssertionError(f"three clicks at {x:.0f}, {y:.0f} opened nothing")
