"""Deleting a sealed run: it is gone for good, nothing else is, and nobody at work is disturbed."""

from __future__ import annotations

import shutil

import pytest

from store import RunLocked, RunNotFound, Store, StoreError


@pytest.fixture
def sealed(store, harness):
    """Seals a run of that key and returns it."""

    def seal(key="abc", **more):
        harness.work(store, key, **more)
        return store.current(key)

    return seal


def test_a_removed_run_is_gone_from_folder_and_catalogue_and_the_others_stay(store, sealed):
    one, other = sealed("one"), sealed("other")
    store.remove(one.id)
    assert not one.path.exists()
    assert [run.id for run in Store(store.folder).runs(current_only=False)] == [other.id]
    with pytest.raises(RunNotFound):
        store.find(one.id)
    assert not list(store.runs_folder.glob("*.lock"))


def test_the_number_of_a_removed_run_is_never_used_again(store, sealed):
    first = sealed("one")
    store.remove(first)
    assert sealed("one").id == "one-2"
    store.remove("one-2")
    assert sealed("one").id == "one-3"


def test_removing_the_newest_attempt_makes_the_one_before_count_again(store, sealed):
    first, second = sealed("one"), sealed("one", force=True)
    assert (first.attempt, second.attempt) == (1, 2)
    store.remove(second)
    assert store.current("one").id == first.id


def test_a_run_whose_key_is_worked_on_is_not_removed(store, sealed, harness):
    run = sealed("one")
    with store.begin("one", harness.RECORD, force=True), pytest.raises(RunLocked, match="must be free"):
        store.remove(run)
    assert run.path.exists()
    store.jobs.add("j1", {"slug": "s", "model": "m"}, origin="page", host="h", pid=1, process_start=0.0)
    store.jobs.change("j1", status="running", key="one")
    with pytest.raises(StoreError, match="which job j1 is making anew; cancel it first"):
        store.remove(run)
    assert run.path.exists()
    store.jobs.change("j1", status="done")
    store.remove(run)
    assert not run.path.exists()


def test_the_entry_of_a_run_whose_file_is_gone_can_be_removed(store, sealed):
    run = sealed("one")
    run.path.unlink()
    assert [one.status for one in store.runs(current_only=False)] == ["missing"]
    store.remove(run.id)
    assert store.runs(current_only=False) == []


def test_removing_one_of_two_copies_leaves_the_other_readable(store, sealed):
    run = sealed("one")
    copy = store.runs_folder / "copy.duckdb"
    shutil.copy(run.path, copy)
    assert {one.status for one in store.runs(current_only=False)} == {"sealed", "duplicate"}
    store.remove(run.id)
    (left,) = store.runs(current_only=False)
    assert (left.path, left.status) == (copy, "sealed")


def test_a_file_outside_the_store_is_never_deleted(store, sealed, tmp_path):
    outside = tmp_path / "elsewhere.duckdb"
    shutil.copy(sealed("one").path, outside)
    with pytest.raises(StoreError, match="must be in the store's own folder"):
        store.remove(outside)
    assert outside.exists()
