"""Labels: kept for the owner, whatever happens to runs; one per unit."""

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from store import Label, Store, StoreError, label_files
from store.labels import conflict_words


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_label_is_kept_and_another_process_reads_it(store):
    store.labels.write("sae", "17", "  names of\n planets ")
    found = Store(store.folder).labels.of("sae")
    assert {unit: label.text for unit, label in found.items()} == {"17": "names of planets"}
    assert found["17"].changed.tzinfo is not None


def test_a_second_label_replaces_the_first_and_blanks_take_it_away(store):
    store.labels.write("sae", "17", "planets")
    store.labels.write("sae", "17", "moons")
    assert [label.text for label in store.labels.of("sae").values()] == ["moons"]
    store.labels.write("sae", "17", " \n ")
    assert store.labels.of("sae") == {}


def test_the_same_number_of_another_owner_is_another_unit(store):
    store.labels.write("one", "0", "a")
    store.labels.write("two", "0", "b")
    assert store.labels.of("one")["0"].text == "a"
    assert store.labels.of("three") == {}


def test_a_label_is_only_text(store):
    text = "'; DROP TABLE labels; -- <img src=x onerror=alert(1)>"
    store.labels.write("sae", "0", text)
    assert store.labels.of("sae")["0"].text == text


def test_a_label_that_is_too_long_is_refused_and_the_old_one_stays(store):
    store.labels.write("sae", "0", "short")
    with pytest.raises(StoreError, match="at most 500 characters, got 501"):
        store.labels.write("sae", "0", "x" * 501)
    assert store.labels.of("sae")["0"].text == "short"


def test_a_catalogue_of_before_gets_its_table_and_keeps_what_it_had(tmp_path):
    store = Store(tmp_path)
    store.known.add("m", name="m", label="m", source="m", task=None, dtype="float32", fingerprints={}, facts={})
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as connection:
        connection.execute("DROP TABLE labels")
        connection.execute("PRAGMA user_version = 3")
    again = Store(tmp_path)
    again.labels.write("sae", "0", "kept")
    assert [model.ref for model in again.models()] == ["m"]
    assert again.labels.of("sae")["0"].text == "kept"


# ---------------------------------------------------------------------------------------------------------------------
# Notes, other kinds of units, and files


def _some(store):
    """A label with a note, one that looks like a formula, a note alone."""
    store.labels.write("weights ab", "blocks.0.mlp 17", "planets", note="Fires on\n\n*names* of planets.", kind="neuron", model="tiny")
    store.labels.write("weights ab", "blocks.0.attn 0 3", '=1+1, "quoted"', kind="head", model="tiny")
    store.labels.write("weights ab", "wte", "", note="'- mostly zero", kind="tensor", model="'tiny")
    return {(one.owner, one.unit): one for one in store.labels.all()}


def test_a_note_is_kept_beside_the_label_and_outlives_a_change_of_it(store):
    store.labels.write("sae", "17", "planets", note=" first line\nsecond  line \n")
    store.labels.write("sae", "17", "moons")
    found = store.labels.get("sae", "17")
    assert (found.text, found.note) == ("moons", "first line\nsecond  line")
    store.labels.write("sae", "17", "")
    assert store.labels.get("sae", "17").note == "first line\nsecond  line"
    store.labels.write("sae", "17", "", note="")
    assert store.labels.get("sae", "17") is None


def test_a_note_that_is_too_long_is_refused_and_the_old_one_stays(store):
    store.labels.write("sae", "0", "a", note="short")
    with pytest.raises(StoreError, match="note must be at most 5,000 characters, got 5,001"):
        store.labels.write("sae", "0", "b", note="x" * 5001)
    assert store.labels.get("sae", "0").says == ("a", "short")


def test_labels_of_before_notes_are_those_of_latents_and_keep_their_text(tmp_path):
    Store(tmp_path)
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as connection:
        connection.executescript(
            "DROP TABLE labels; CREATE TABLE labels (owner TEXT, unit TEXT, text TEXT, changed TEXT, PRIMARY KEY (owner, unit));"
            "INSERT INTO labels VALUES ('sae x', '3', 'old', '2026-01-02T00:00:00+00:00'); PRAGMA user_version = 4;"
        )
    [found] = Store(tmp_path).labels.all()
    assert (found.kind, found.unit, found.text, found.note, found.changed.year) == ("latent", "3", "old", "", 2026)


@pytest.mark.parametrize("write", [label_files.as_json, label_files.as_csv])
def test_what_is_exported_and_imported_elsewhere_is_the_same_to_the_letter(store, tmp_path, write):
    before = _some(store)
    other = Store(tmp_path / "other")
    merged = other.labels.merge(label_files.read(write(before.values()).encode()))
    assert {(one.owner, one.unit): one for one in other.labels.all()} == before
    assert (merged.added, merged.same, merged.conflicts) == (3, 0, ())
    again = other.labels.merge(label_files.read(write(before.values()).encode()))
    assert (again.added, again.same, again.conflicts) == (0, 3, ())


def test_a_spreadsheet_computes_nothing_of_an_exported_label(store):
    rows = label_files.as_csv(_some(store).values()).splitlines()
    assert not any(cell.lstrip('"').startswith("=") for row in rows for cell in row.split(","))


@pytest.mark.parametrize(("prefer", "stays"), [("newer", "here later"), ("ours", "here later"), ("theirs", "from the file")])
def test_two_labels_of_one_unit_are_said_and_the_preferred_one_stays(store, prefer, stays):
    theirs = Label("1", "from the file", datetime(2026, 1, 1, tzinfo=UTC), "sae", "latent", "", "tiny")
    store.labels.write("sae", "1", "here later")
    merged = store.labels.merge([theirs], prefer)
    assert store.labels.get("sae", "1").text == stays
    [conflict] = merged.conflicts
    assert (conflict.ours.text, conflict.theirs.text) == ("here later", "from the file")
    assert merged.added == 0
    [words] = conflict_words(merged.conflicts)
    assert "'here later'" in words and "'from the file'" in words
    assert words.endswith("the one of the file is taken" if prefer == "theirs" else "the one here stays")


def test_a_newer_label_of_a_file_replaces_an_older_one(store):
    old = Label("1", "old", datetime(2026, 1, 1, tzinfo=UTC), "sae")
    store.labels.merge([old])
    store.labels.merge([replace(old, text="new", changed=datetime(2026, 1, 2, tzinfo=UTC))])
    assert store.labels.get("sae", "1").text == "new"


GOOD = {"kind": "head", "model": "m", "unit": "u", "label": "l", "note": "", "changed": "2026-01-01T00:00:00+00:00", "owner": "o"}


def _file(*rows):
    return json.dumps({"format": label_files.FORMAT, "labels": list(rows)}).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must have the columns"),
        (b"\xff\xfe", "UTF-8"),
        (b"{", "breaks off"),
        (b"[" * 100_000, "breaks off"),
        (b"{}", '"format"'),
        (b"[]", '"format"'),
        (b"kind,unit\nhead,1\n", "none named model"),
        (b'kind,model,unit,label,note,changed,owner\nhead,"m', "cannot be read"),
        (b"kind,model,unit,label,note,changed,owner\nhead,m\n", "row 1"),
        (_file("text"), "row 1"),
        (_file({"kind": "head"}), "row 1"),
        (_file(GOOD | {"label": 3}), "each a text"),
        (_file(GOOD, GOOD | {"unit": "v", "kind": "token"}), "got 'token' in row 2"),
        (_file(GOOD | {"unit": ""}), "got 0 in row 1"),
        (_file(GOOD | {"kind": "latent", "unit": "u"}), "by its number, got 'u' in row 1"),
        (_file(GOOD | {"owner": "x" * 1001}), "got 1,001"),
        (_file(GOOD | {"label": "x" * 501}), "row 1: a label must be at most 500"),
        (_file(GOOD | {"note": "x" * 5001}), "row 1: a note must be at most 5,000"),
        (_file(GOOD | {"label": " "}), "neither label nor note"),
        (_file(GOOD | {"changed": "yesterday"}), "got 'yesterday' in row 1"),
        (_file(GOOD | {"changed": "9999-01-01T00:00:00+00:00"}), "must not lie in the future"),
        (_file(GOOD, GOOD), "in rows 1 and 2"),
        (b" " * (label_files.LARGEST + 1), "at most 10.0 MB"),
    ],
)
def test_a_file_with_anything_wrong_is_refused_in_a_sentence(content, words):
    with pytest.raises(StoreError) as caught:
        label_files.read(content)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_merge_that_fails_half_way_keeps_nothing_of_it(store):
    good = Label("1", "fine", datetime(2026, 1, 1, tzinfo=UTC), "sae")
    with pytest.raises(StoreError, match="501"):
        store.labels.merge([good, replace(good, unit="2", text="x" * 501)])
    assert store.labels.all() == []
    with pytest.raises(StoreError, match="one of newer, ours, theirs"):
        store.labels.merge([good], "whichever")
