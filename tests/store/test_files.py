"""Files of a run that are no tables: whatever dies, a sealed run has exactly the files it lists, and nothing else is left."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal

import pytest

from store import Store, StoreError

WHOLE = {"units": 2, "rows": 50, "files": True}
NAMES = ["note.txt", "sae/weights.bin"]


def names(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def sealed(store, harness):
    harness.work(store, "one", **WHOLE)
    return store.current("one")


def test_a_sealed_run_has_its_files_and_lists_them_with_size_and_hash(store, sealed):
    folder = store.files(sealed)
    assert folder == store.runs_folder / "one-1.files"
    assert names(folder) == NAMES
    listed = {one["name"]: one for one in store.provenance(sealed)["files"]}
    assert sorted(listed) == NAMES
    assert listed["sae/weights.bin"] == {"name": "sae/weights.bin", "bytes": 5000, "sha256": hashlib.sha256(b"w" * 5000).hexdigest()}
    assert not os.stat(folder / "note.txt").st_mode & 0o222


def test_a_run_without_files_has_none_and_no_folder(store, harness):
    path = harness.work(store, "bare")
    assert store.files(path) is None
    assert store.provenance(path)["files"] is None
    assert [name for name in os.listdir(store.runs_folder) if "bare" in name] == [path.name]


def test_a_folder_that_stayed_empty_is_no_file(store, harness):
    with store.begin("k", harness.RECORD) as attempt:
        attempt.commit("layer 0", harness.unit_rows(0, 5))
        assert attempt.files_folder.is_dir()
        path = attempt.seal(harness.LAYOUTS)
    assert store.files(path) is None
    assert [name for name in os.listdir(store.runs_folder) if name.startswith("k")] == [path.name]


def test_the_size_of_a_run_counts_its_files_where_they_are(store, sealed):
    assert sealed.size == sealed.path.stat().st_size + 5000 + len("a note")
    shutil.rmtree(sealed.path.with_suffix(".files"))
    assert store.find(sealed.id).size == sealed.path.stat().st_size


def test_a_run_copied_without_its_files_says_so(store, sealed, tmp_path):
    other = Store(tmp_path / "other")
    shutil.copy(sealed.path, other.runs_folder / sealed.path.name)
    assert other.count(sealed.id, "neurons") == 100
    with pytest.raises(StoreError, match=r"must lie beside it, got one-1.duckdb without one-1.files; copy that folder, too"):
        other.files(sealed.id)
    shutil.copytree(sealed.path.with_suffix(".files"), other.runs_folder / "one-1.files")
    assert names(other.files(sealed.id)) == NAMES
    (other.runs_folder / "one-1.files" / "note.txt").unlink()
    with pytest.raises(StoreError, match=r"got one-1.files without note.txt; copy the folder again"):
        other.files(sealed.id)
    (other.runs_folder / "one-1.files" / "note.txt").write_text("half")
    with pytest.raises(StoreError, match="of 4 bytes instead of 6; copy the folder again"):
        other.files(sealed.id)


def test_files_of_a_sealed_file_given_by_path_are_found_beside_it(store, sealed, tmp_path):
    shutil.copy(sealed.path, tmp_path / "mine.duckdb")
    shutil.copytree(sealed.path.with_suffix(".files"), tmp_path / "mine.files")
    assert store.files(tmp_path / "mine.duckdb") == tmp_path / "mine.files"


def test_removing_a_run_removes_its_files_and_those_of_no_other(store, sealed, harness):
    harness.work(store, "other", **WHOLE)
    store.remove(sealed)
    assert sorted(os.listdir(store.runs_folder)) == ["other-1.duckdb", "other-1.files"]


def test_a_removal_that_died_after_the_sealed_file_is_finished_by_the_next_one(store, sealed):
    sealed.path.unlink()
    assert store.find("one-1").status == "missing"
    store.remove("one-1")
    assert os.listdir(store.runs_folder) == []


def test_files_of_a_sealed_file_that_was_moved_away_wait_for_it(store, sealed, harness, tmp_path):
    shutil.move(sealed.path, tmp_path / "away.duckdb")
    harness.work(store, "one", **WHOLE)  # attempt 2; its begin tidies
    shutil.move(tmp_path / "away.duckdb", sealed.path)
    assert names(store.files("one-1")) == names(store.files("one-2")) == NAMES


def test_files_nobody_sealed_are_cleared_when_the_key_is_begun_and_not_before(store, harness):
    (store.runs_folder / "k-1.files").mkdir()
    (store.runs_folder / "k2-1.files").mkdir()
    with store.begin("k", harness.RECORD):
        assert not (store.runs_folder / "k-1.files").exists()
        assert (store.runs_folder / "k2-1.files").exists()


def test_a_link_among_the_files_is_refused_and_nothing_is_lost(store, harness):
    with store.begin("k", harness.RECORD) as attempt:
        attempt.commit("layer 0", harness.unit_rows(0, 5))
        os.symlink("/etc/hostname", attempt.files_folder / "link")
        with pytest.raises(StoreError, match="must be plain files, got .*link"):
            attempt.seal(harness.LAYOUTS)
        (attempt.files_folder / "link").unlink()
        (attempt.files_folder / "own").write_text("x")
        assert names(store.files(attempt.seal(harness.LAYOUTS))) == ["own"]


def test_a_sealing_that_fails_gives_the_files_back_to_the_attempt(store, harness, monkeypatch):
    with store.begin("k", harness.RECORD) as attempt:
        attempt.commit("layer 0", harness.unit_rows(0, 5))
        (attempt.files_folder / "own").write_text("x")

        def fails(*_: object) -> None:
            raise OSError(5, "input/output error")

        with monkeypatch.context() as patch, pytest.raises(OSError, match="input/output"):
            patch.setattr("os.replace", fails)
            attempt.seal(harness.LAYOUTS)
        assert not (store.runs_folder / "k-1.files").exists()
        (attempt.files_folder / "own").write_text("written again")
        assert (store.files(attempt.seal(harness.LAYOUTS)) / "own").read_text() == "written again"


@pytest.mark.slow
def test_a_kill_at_any_durable_step_leaves_no_sealed_run_without_files_and_no_files_without_a_run(store, harness, trial):
    step, status, taken_back = 0, signal.SIGKILL, 0
    while status:
        step += 1
        key = f"step{step}x"
        status, _ = trial(store.folder, key, **WHOLE, kill_at=step)
        assert status in (0, -signal.SIGKILL)
        seen = sorted(name for name in os.listdir(store.runs_folder) if name.startswith(key))
        if f"{key}-1.duckdb" in seen:
            assert names(store.files(store.runs_folder / f"{key}-1.duckdb")) == NAMES
        taken_back += f"{key}-1.files" in seen and f"{key}-1.duckdb" not in seen
        path = harness.work(store, key, **WHOLE)
        assert path.name == f"{key}-1.duckdb"
        assert names(store.files(path)) == NAMES
        with store.begin(key, harness.RECORD):
            pass  # a begin tidies what a kill after publication left
        assert sorted(name for name in os.listdir(store.runs_folder) if key in name) == [f"{key}-1.duckdb", f"{key}-1.files"]
    assert step > 30
    assert taken_back >= 1  # the moment between the two renames was among them
