"""docs/load-your-model.md is true: its commands and its Python run as printed, and what it says is refused is refused."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis import ANALYSES
from analysis.__main__ import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "load-your-model.md"
BLOCKS = re.findall(r"^```(\w+)(?: ([\w.]+))?\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def desk(tmp_path, tiny_llama, monkeypatch):
    """A folder that holds what the page talks about."""
    folder = tmp_path / "desk"
    folder.mkdir()
    shutil.copytree(tiny_llama, folder / "my-model")
    weights = folder / "my-model" / "model.safetensors"
    with zipfile.ZipFile(folder / "my-model.zip", "w") as archive:
        for one in (folder / "my-model").iterdir():
            archive.write(one, one.name)
    shutil.copy(weights, folder / "weights.safetensors")
    state = load_file(weights)
    torch.save({"state_dict": state, "optimizer": {"state": {}, "param_groups": []}}, folder / "training.ckpt")
    (folder / "notes.txt").write_text("\n<|endoftext|>\n".join(" ".join(f"w{(i * k) % 38}" for i in range(40)) for k in range(1, 9)))
    (folder / "checkpoints").mkdir()
    for step in (100, 200, 300):
        thinned = {name: value * (value.abs() > step * 1e-5) for name, value in state.items()}
        save_file(thinned, folder / "checkpoints" / f"step_{step}.safetensors")
    adapter = folder / "my-adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4}')
    path = "base_model.model.model.layers.0.self_attn.q_proj"
    matrices = {f"{path}.lora_A.weight": torch.ones(2, 16), f"{path}.lora_B.weight": torch.ones(16, 2)}
    save_file(matrices, adapter / "adapter_model.safetensors")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPARSESCOPE_STORE", str(folder / "results"))
    monkeypatch.setenv("SPARSESCOPE_MEMORY", "4")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("my_package", None)


def test_every_block_of_the_page_runs_as_printed_in_their_order(desk, capsys):
    names: dict[str, object] = {}
    registered = {analysis.slug for analysis in ANALYSES}
    commands = refusals = 0
    for kind, word, text in BLOCKS:
        if kind == "python" and word:
            (desk / word).write_text(text)
        elif kind == "python":
            exec(compile(text, str(PAGE), "exec"), names)
        elif kind == "sh":
            for line in text.splitlines():
                program, _, module, *arguments = shlex.split(line)
                assert (program, module) == ("python", "analysis")
                if arguments[0] == "run" and arguments[1] not in registered:
                    pytest.fail(f"the page names {arguments[1]}, which is no analysis")
                status = main([*arguments, "--now"])
                said = capsys.readouterr().err.strip()
                assert status == (2 if word == "refused" else 0), f"{line}: {said}"
                if word == "refused":
                    assert said.endswith(".") and "\n" not in said, line
                    refusals += 1
                commands += 1
    assert commands >= 15 and refusals == 2


def test_the_page_is_linked_and_names_every_way_in():
    for where in ("README.md", "docs/tutorial.md"):
        assert "load-your-model.md" in (PAGE.parents[1] / where).read_text(), where
    text = PAGE.read_text()
    for way in (
        "sharded",
        ".bin",
        ".safetensors",
        ".ckpt",
        "GGUF",
        ".zip",
        "step_",
        "HF_HUB_OFFLINE",
        "browser",
        ".pt2",
        "--factory",
        "subject_from",
    ):
        assert way in text, way


def test_the_keys_and_prefixes_on_the_page_are_those_that_are_unwrapped():
    from analysis.models.files.unpickle import NESTED, PREFIXES

    text = PAGE.read_text()
    assert all(f"`{one}`" in text for one in (*NESTED, *PREFIXES))
