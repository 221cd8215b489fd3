"""From a run on the command line to the page, from the page's file back to the command line, and to the same number."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from analysis.__main__ import main
from store import Store

PAGE = "pages/planes.py"
NAMES = "wanda, ffn-topk, sink-window, ffn-topk + heads@0.5"


@pytest.fixture
def notes(tmp_path):
    """Forty documents of a few words each."""
    path = tmp_path / "notes.txt"
    path.write_text("\n<|endoftext|>\n".join(" ".join(f"w{(i * k) % 38}" for i in range(40)) for k in range(1, 41)))
    return path


def test_the_file_of_the_page_is_a_config_that_run_takes_and_measures_that_point_again(
    store, tiny_llama, notes, tmp_path, open_page, monkeypatch, capsys
):
    given = ["run", "sparsity_plane", "--model", str(tiny_llama), "--data", str(notes), "--window", "16", "--n-tokens", "1280"]
    given += ["--interventions", NAMES, "--levels", "0.3, 0.6", "--contexts", "32", "--store", str(store.folder), "--now"]
    assert main(given) == 0, capsys.readouterr().err
    (first,) = store.runs()
    known = store.read(first, "plane_costs").query("level > 0")
    monkeypatch.chdir(tmp_path)
    for method, level in (("ffn-topk", 0.6), ("wanda", 0.3), ("ffn-topk + heads@0.5", 0.6)):
        at = open_page(PAGE, run=first.id, one=method, at=f"{100 * level:.1f} %")
        assert any("put the path of notes" in re.sub(r"[\\\u2060]", "", one.value) for one in at.caption)
        text = next(one.value for one in at.code if one.value.startswith("{"))
        words = shlex.split(next(one.value for one in at.code if "--config" in one.value))[3:]
        (tmp_path / words[words.index("--config") + 1]).write_text(text)
        words[words.index("--data") + 1] = str(notes)
        seen = {run.id for run in store.runs()}
        assert words[:2] == ["run", "sparsity_plane"] and main([*words, "--now"]) == 0, capsys.readouterr().err
        (second,) = [run for run in Store(store.folder).runs() if run.id not in seen]
        again = store.read(second, "plane_costs").query("level > 0")
        assert set(zip(again["method"], again["level"])) == {(method, level)}
        both = again.merge(known, on=["method", "level", "context", "phase", "batch"], suffixes=("", "_first"))
        assert len(both) == len(again) and (both["delta"] == both["delta_first"]).all() and (both["share"] == both["share_first"]).all()
        assert json.loads(text)["interventions"].startswith(method.partition(" + ")[0])
