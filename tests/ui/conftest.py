"""A store with real sealed runs of the toy, and the pages on it."""

import pytest
from streamlit.testing.v1 import AppTest

from store import Store
from tests.toy import HOSTILE, TOY, make_run
from ui.serve import FOLDERS_VARIABLE, ROOT, STORE_VARIABLE


@pytest.fixture
def toy_is_registered(monkeypatch):
    import analysis

    monkeypatch.setattr(analysis, "ANALYSES", (*analysis.ANALYSES, TOY))


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store, which the pages show."""
    folder = tmp_path / "store"
    monkeypatch.setenv(STORE_VARIABLE, str(folder))
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path))
    return Store(folder)


@pytest.fixture
def run(store):
    return make_run(store)


@pytest.fixture
def hostile_run(store):
    return make_run(store, name=HOSTILE)


@pytest.fixture
def open_page():
    """Opens a page as a browser would, with a query, and returns what is shown."""

    def open_it(page="pages/home.py", /, **query):
        at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
        at.run()
        for name, value in query.items():
            at.query_params[name] = value
        if page != "pages/home.py":
            at.switch_page(page)
        at.run()
        assert not at.exception, at.exception
        return at

    return open_it
