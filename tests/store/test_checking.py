"""`store check` and `store import`: whatever is not as it was sealed is named, and nothing foreign gets further than its copy."""

from __future__ import annotations

import json
import os
import shutil
import stat

import duckdb
import pytest

from analysis.__main__ import main
from store import RunLocked, Store, StoreError
from store.checking import check
from store.importing import import_file


@pytest.fixture
def sealed(store, harness):
    """A run with files beside it, of 200 rows a unit."""
    harness.work(store, "abc", rows=200, files=True)
    return store.current("abc")


@pytest.fixture
def other(tmp_path):
    found = Store(tmp_path / "other")
    yield found
    found.close()


def words(store):
    """What is wrong, by file."""
    store.pool.close()
    return {verdict.path.name: verdict.words for verdict in check(store) if verdict.words}


def changed(store, info, *statements):
    """The sealed file after somebody has written to it."""
    store.pool.close()
    os.chmod(info.path, 0o644)
    with duckdb.connect(str(info.path)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_an_untouched_store_has_nothing_wrong_and_all_of_it_was_read(store, sealed):
    (verdict,) = check(store)
    assert (verdict.path, verdict.words, verdict.rows) == (sealed.path, "", sum(sealed.rows.values()))
    assert verdict.bytes == sealed.path.stat().st_size


def test_a_byte_flipped_anywhere_behind_the_headers_is_found(store, sealed):
    os.chmod(sealed.path, 0o644)
    whole = sealed.path.read_bytes()
    for place in range(3 * 4096 + 100, len(whole), len(whole) // 12):
        sealed.path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        assert words(store), f"byte {place} of {len(whole)}"
    sealed.path.write_bytes(whole)
    assert not words(store)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM neurons WHERE neuron = 3", "table neurons of abc-1.duckdb must have 600 rows, got 597"),
        ("DROP TABLE layers", "abc-1.duckdb must hold the tables it lists, got no layers"),
        ("CREATE TABLE more AS SELECT 1 AS x", "abc-1.duckdb must hold the tables it lists, got more besides"),
        ("COMMENT ON COLUMN neurons.density IS NULL", "table neurons of abc-1.duckdb must say what its columns are, got no comment on"),
        ("CREATE VIEW spy AS SELECT 1 AS x", "abc-1.duckdb must hold tables only, got the view 'spy'"),
        ("ALTER TABLE run DROP COLUMN versions", "abc-1.duckdb must describe its run in full, got no versions"),
        ("UPDATE run SET key = 'xyz'", "abc-1.duckdb must be named as the run it holds, got run xyz-1"),
        ("DELETE FROM run", "must describe one run, got 0 rows in its table run"),
    ],
)  # fmt: skip
def test_what_was_written_after_sealing_is_found(store, sealed, statement, expected):
    changed(store, sealed, statement)
    assert expected in words(store)["abc-1.duckdb"]


def test_files_that_are_not_as_listed_are_found(store, sealed):
    folder = store.files(sealed)
    note = folder / "note.txt"
    os.chmod(note, 0o644)
    text = note.read_text()
    note.write_text(text.upper())
    assert words(store) == {"abc-1.duckdb": "abc-1.files/note.txt must be as it was sealed, got other contents; copy the folder again."}
    note.write_text(text)
    (folder / "spare").write_text("x")
    assert "must hold what its run lists, got spare besides" in words(store)["abc-1.duckdb"]
    (folder / "spare").unlink()
    note.unlink()
    assert "got abc-1.files without note.txt" in words(store)["abc-1.duckdb"]
    sealed.path.rename(store.folder / "abc-1.duckdb")
    assert "got abc-1.files alone" in words(store)["abc-1.files"]


def test_the_command_says_what_is_wrong_and_returns_1(store, sealed, capsys):
    assert main(["store", "check", "--store", str(store.folder)]) == 0
    changed(store, sealed, "DELETE FROM layers")
    assert main(["store", "check", "--store", str(store.folder)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("abc-1.duckdb: table layers of abc-1.duckdb must have 3 rows, got 0")
    assert "1 sealed files of" in said.err and said.err.strip().endswith("1 not as they were sealed.")


# -- import -----------------------------------------------------------------------------------------------------------


def test_an_imported_run_is_the_run_with_its_files_and_cannot_be_written_to(store, sealed, other, capsys):
    assert main(["store", "import", str(sealed.path), "--store", str(other.folder)]) == 0
    assert capsys.readouterr().out.split()[:2] == ["abc-1", "neuron_activity"]
    info = other.find("abc-1")
    assert info.path.read_bytes() == sealed.path.read_bytes() and info.current
    assert (other.files(info) / "note.txt").read_text() == (store.files(sealed) / "note.txt").read_text()
    assert not stat.S_IMODE(info.path.stat().st_mode) & 0o222
    assert not list(check(other))[0].words
    assert {p.name for p in other.runs_folder.iterdir()} == {"abc-1.duckdb", "abc-1.files"}, "nothing else is left"
    assert import_file(other, sealed.path).id == "abc-1", "a second time it is there already"


def test_nothing_is_sealed_beside_files_that_are_no_longer_those_of_the_run(store, sealed, other):
    import_file(other, sealed.path)
    other.pool.close()
    other.find("abc-1").path.unlink()
    note = other.runs_folder / "abc-1.files" / "note.txt"
    os.chmod(note, 0o644)
    note.write_bytes(b"?" * note.stat().st_size)
    with pytest.raises(StoreError, match="note.txt must be as it was sealed, got other contents; copy the folder again"):
        import_file(other, sealed.path)
    assert not list(other.runs_folder.glob("*.duckdb"))


def test_another_run_of_the_same_name_is_not_overwritten(store, sealed, other, harness):
    harness.work(other, "abc", rows=10)
    before = other.find("abc-1").path.read_bytes()
    with pytest.raises(StoreError, match="^the store must not hold another run abc-1, got one that differs from .*; remove it first.$"):
        import_file(other, sealed.path)
    assert other.find("abc-1").path.read_bytes() == before


def test_nothing_is_taken_while_its_key_is_worked_on_or_where_it_is_damaged(store, sealed, other, harness, tmp_path):
    with other.begin("abc", harness.RECORD), pytest.raises(RunLocked):
        import_file(other, sealed.path)
    damaged = tmp_path / "damaged.duckdb"
    shutil.copyfile(sealed.path, damaged)
    with pytest.raises(StoreError, match="without damaged.files; copy that folder, too"):
        import_file(other, damaged)
    for path, expected in ((tmp_path / "none.duckdb", "must be a sealed file"), (tmp_path / "a.txt", "must be a sealed file")):
        with pytest.raises(StoreError, match=expected):
            import_file(other, path)
    (tmp_path / "text.duckdb").write_text("no database")
    with pytest.raises(StoreError, match="text.duckdb"):
        import_file(other, tmp_path / "text.duckdb")
    assert not list(other.runs_folder.glob("*.duckdb"))


@pytest.mark.parametrize("name", ["../../note.txt", "/etc/hostname", ".."])
def test_names_in_a_foreign_file_cannot_lead_out_of_the_folder(store, sealed, other, tmp_path, name):
    listed = json.dumps([{"name": name, "bytes": 1, "sha256": "0"}])
    changed(store, sealed, f"UPDATE run SET files = '{listed}'")
    with pytest.raises(StoreError, match="^files of a run must be named inside its folder, got "):
        import_file(other, sealed.path)
    assert not list(other.runs_folder.iterdir())


def test_a_foreign_key_that_is_no_file_name_is_refused(store, sealed, other):
    changed(store, sealed, "UPDATE run SET key = '../up'")
    with pytest.raises(StoreError, match="^a run key must be 1 to 100 letters"):
        import_file(other, sealed.path)
