"""A store with real sealed runs of the toy, and the pages on it."""

import pytest

from store import Store
from tests.opening import HOME, app, send
from tests.toy import HOSTILE, TOY, make_run
from ui.serve import FOLDERS_VARIABLE, STORE_VARIABLE


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

    def open_it(page=HOME, /, **query):
        at = send(app(patience=30).run(), page, query)
        at.run()
        assert not at.exception, at.exception
        return at

    return open_it
