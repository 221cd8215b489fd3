"""docs/saes.md is true: its commands and its Python run as printed, and what it says is refused is refused in one sentence."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import ANALYSES
from analysis.__main__ import main
from tests.latents.saes import made

PAGE = Path(__file__).resolve().parents[2] / "docs" / "saes.md"
BLOCKS = re.findall(r"^```(\w+)(?: ([\w.]+))?\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
REGISTERED = {analysis.slug for analysis in ANALYSES}


@pytest.fixture
def desk(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that holds what the page talks about."""
    folder = tmp_path / "desk"
    folder.mkdir()
    shutil.copytree(tiny_llama, folder / "my-model")
    (folder / "notes.txt").write_text("\n<|endoftext|>\n".join(" ".join(f"w{(i * k) % 38}" for i in range(40)) for k in range(1, 30)))
    metadata = {"hook_name": "blocks.1.hook_resid_post", "model_name": "my-model", "context_size": 16}
    changed = (
        ("my-sae", 16, {}), ("heads-sae", 16, {"hook_name": "blocks.1.attn.hook_z"}),
        ("narrow-sae", 6, {}), ("gpt2-sae", 16, {"model_name": "gpt2-small"}), ("deep-sae", 16, {"hook_name": "blocks.9.hook_resid_post"}),
    )  # fmt: skip
    for name, width, changes in changed:
        made("topk", d_in=width, d_sae=64, metadata=metadata | changes).save_model(folder / name)
    shutil.copytree(folder / "my-sae", folder / "other-sae")
    (folder / "other-sae" / "sae_weights.safetensors").rename(folder / "other-sae" / "weights.safetensors")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPARSESCOPE_STORE", str(folder / "results"))
    monkeypatch.setenv("SPARSESCOPE_MEMORY", "8")
    yield folder


@pytest.mark.slow
def test_every_block_of_the_page_runs_as_printed_in_their_order(desk: Path, capsys: pytest.CaptureFixture[str]):
    names: dict[str, Any] = {}
    refusals: list[str] = []
    done = refused = 0
    for kind, word, text in BLOCKS:
        if kind == "python":
            exec(compile(text, str(PAGE), "exec"), names)
        for line in text.splitlines() if kind == "sh" else ():
            program, _, module, *arguments = shlex.split(line)
            assert (program, module) == ("python", "analysis")
            status = main([*arguments, "--now"])
            said = capsys.readouterr().err.strip()
            assert status == (2 if word == "refused" else 0), f"{line}: {said}"
            assert word != "refused" or (said.endswith(".") and "\n" not in said), f"{line}: {said}"
            done, refused = done + 1, refused + (word == "refused")
            refusals += [said] if word == "refused" else []
    assert (done, refused) == (9, 4)
    for said, wrong in zip(
        refusals, ("the width of what the SAE reads must be", "the SAE must be of the model", "the hook point of the SAE")
    ):
        assert wrong in said, "the sentence says which of them is wrong"


def test_the_kinds_and_names_on_the_page_are_those_of_places():
    from typing import get_args

    from analysis.latents.naming import NAMES
    from analysis.latents.places import PlaceKind

    text = PAGE.read_text()
    assert all(re.search(rf"\b{kind}\b", text) for kind in get_args(PlaceKind))
    assert all(f"`blocks.3.{name}`" in text for name in NAMES.values())
