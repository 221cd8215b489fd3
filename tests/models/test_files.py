from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.models import open_subject, trust
from analysis.models.files import Quarantine, Refused, look, sandbox, torch_files
from analysis.models.files.disk import read_json
from analysis.models.places import FACTORY
from analysis.spec import UnknownName, UserError

ROOT = Path(__file__).resolve().parents[2]


def zipped(folder, to, inside="", method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(to, "w", method) as archive:
        for one in sorted(folder.iterdir()):
            archive.write(one, f"{inside}{one.name}")
    return to


def as_bin(folder, name="pytorch_model.bin", **more):
    """The folder with its safetensors file as a torch file."""
    state = load_file(folder / "model.safetensors") | more
    torch.save(state, folder / name)
    (folder / "model.safetensors").unlink()
    return state


# Headers ---------------------------------------------------------------------------------------------------------------


def test_a_gigabyte_is_listed_in_two_seconds_from_its_header_without_torch_in_300_megabytes(tmp_path):
    path = tmp_path / "big.safetensors"
    n, side = 256, 1024  # 256 tensors of 4 MiB
    size = side * side * 4
    header = {
        f"model.layers.{i}.mlp.gate_proj.weight": {"dtype": "F32", "shape": [side, side], "data_offsets": [i * size, (i + 1) * size]}
        for i in range(n)
    }
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + n * size)
    code = """
        import sys, time
        from analysis.models.files import look
        start = time.monotonic()
        header = look(sys.argv[1])
        took = time.monotonic() - start
        assert "torch" not in sys.modules
        peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print(header.n_parameters, len(header.tensors), took, peak)
    """
    # The registry is not this test's business: what `look` needs is the package of models, below a stand-in for its parent.
    stand_in = f"""
        import sys, types
        parent = types.ModuleType("analysis"); parent.__path__ = [{str(ROOT / "analysis")!r}]
        sys.modules["analysis"] = parent
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(stand_in) + textwrap.dedent(code), path],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    parameters, tensors, took, peak_kb = done.stdout.split()
    assert (int(parameters), int(tensors)) == (n * side * side, n)
    assert path.stat().st_size > 2**30 and float(took) < 2 and int(peak_kb) < 300_000


def test_the_kind_is_read_from_the_first_bytes_and_not_from_the_name(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "weights.gguf")
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.safetensors")
    assert (look(tmp_path / "weights.gguf").kind, look(tmp_path / "weights.safetensors").kind) == ("safetensors", "torch")


def test_the_tree_adds_up_to_the_whole(tiny_llama):
    header = look(tiny_llama)
    tree = header.tree()
    assert header.refusal is None and header.can_run and header.seems == "LlamaForCausalLM, 2 layers"
    assert tree.n_tensors == len(header.tensors) and tree.n_parameters == header.n_parameters
    model = next(one for one in tree.children if one.name == "model")
    layers = next(one for one in model.children if one.name == "layers")
    assert [one.name for one in layers.children] == ["0", "1"]
    first, second = layers.children
    assert first.n_parameters == second.n_parameters and layers.n_parameters == 2 * first.n_parameters
    assert layers.n_bytes == 4 * layers.n_parameters


def test_the_header_counts_the_same_parameters_as_the_model_and_knows_the_tie(tiny_llama):
    header = look(tiny_llama)
    assert header.n_parameters == sum(p.numel() for p in open_subject(str(tiny_llama)).model.parameters())
    assert header.tied == (("model.embed_tokens.weight", "lm_head.weight"),)


def test_what_is_missing_is_said(tiny_llama, tmp_path):
    assert look(tiny_llama).missing == ()
    (tiny_llama / "tokenizer.json").unlink()
    assert "cannot read text" in " ".join(look(tiny_llama).missing)
    shutil.copy(tiny_llama / "model.safetensors", tmp_path / "bare.safetensors")
    bare = look(tmp_path / "bare.safetensors")
    assert not bare.can_run and "no config.json" in bare.missing[0] and bare.seems == "a gated decoder of the LLaMA family"


def test_sharded_weights_are_listed_with_their_files(tiny_llama):
    state = load_file(tiny_llama / "model.safetensors")
    names = sorted(state)
    for number, part in enumerate((names[:5], names[5:])):
        save_file({name: state[name] for name in part}, tiny_llama / f"model-{number}.safetensors")
    (tiny_llama / "model.safetensors").unlink()
    shards = {name: f"model-{int(i >= 5)}.safetensors" for i, name in enumerate(names)}
    (tiny_llama / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    header = look(tiny_llama)
    assert {entry.name: entry.file for entry in header.tensors} == shards


def test_a_gguf_header_is_listed_with_its_own_types(tmp_path):
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc"])
    writer.add_tensor("blk.0.attn_q.weight", torch.zeros(4, 32).numpy())
    writer.add_tensor("blk.0.ffn_up.weight", torch.zeros(2, 18, dtype=torch.uint8).numpy(), raw_dtype=GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = look(tmp_path / "a.gguf")
    assert header.refusal is None and header.metadata["general.architecture"] == "llama" and header.seems == "a llama model"
    assert header.metadata["tokenizer.ggml.tokens"] == "2 values"
    assert [(e.name, e.shape, e.dtype, e.n_bytes) for e in header.tensors] == [
        ("blk.0.attn_q.weight", (4, 32), "float32", 512),
        ("blk.0.ffn_up.weight", (2, 32), "Q4_0", 36),
    ]
    assert header.n_parameters == 4 * 32 + 2 * 32


@pytest.mark.parametrize("form", ["step_{}", "checkpoint-{}", "model_{}.safetensors"])
def test_numbered_checkpoints_are_a_series_in_order_of_their_numbers(tmp_path, form):
    for number in (200, 30, 1000):
        path = tmp_path / form.format(number)
        if not path.suffix:
            path.mkdir()
            path = path / "model.safetensors"
        save_file({"a.weight": torch.ones(number)}, path)
    header = look(tmp_path)
    assert header.kind == "series" and [step.step for step in header.steps] == [30, 200, 1000]


def test_files_without_a_number_of_their_own_are_no_series(tmp_path):
    for name in ("a_1.safetensors", "b_2.safetensors"):
        save_file({"a.weight": torch.ones(1)}, tmp_path / name)
    assert look(tmp_path).kind != "series"


def test_an_unknown_path_is_refused():
    with pytest.raises(UnknownName, match="must be a file or folder"):
        look("/no/such/file")


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"\x93NUMPY\x01\x00", "a numpy array"),
        (b"\x1f\x8b\x08", "unpack it"),
        (b"\x7fELF", "a program"),
    ],
)
def test_a_file_that_is_no_model_is_refused_with_what_it_is(tmp_path, start, says):
    (tmp_path / "model.safetensors").write_bytes(start)
    assert says in str(look(tmp_path / "model.safetensors").refusal)


# Torch files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", [True, False], ids=["bubblewrap", "alone"])
def test_a_training_checkpoint_becomes_its_models_weights(tmp_path, own_cache, new, wrap):
    if wrap and sandbox.bubblewrap() is None:
        pytest.skip("bubblewrap does not work here")
    weight = torch.arange(6.0).reshape(2, 3)
    state = {"module.a.weight": weight, "module.b.weight": weight, "module.c.weight": weight.t(), "module.n": torch.tensor(7)}
    everything = {
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"exp_avg": weight, "step": 3}}, "param_groups": []},
        "epoch": 3,
    }
    torch.save(everything, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    made = torch_files.convert(tmp_path / "a.pt", wrap=wrap)
    found = load_file(made.weights)
    assert set(found) == {"a.weight", "c.weight", "n"}
    assert torch.equal(found["a.weight"], weight) and torch.equal(found["c.weight"], weight.t()) and found["n"] == 7
    assert {e.name: e.tied for e in made.entries}["a.weight"] == ("b.weight",)
    said = " ".join(made.notes)
    assert "'model_state_dict'" in said and "'module.'" in said and "left out: 1 tensor of 'optimizer_state_dict'" in said
    assert not list(own_cache.glob("*.tmp"))


def test_a_bare_torch_file_answers_weight_questions_and_says_what_is_tied(tmp_path, own_cache):
    weight = torch.ones(2, 3)
    torch.save(
        {"a.weight": weight, "b.weight": weight, "z": torch.zeros(0, 5), "x.weight": torch.tensor([1.0, float("nan")])}, tmp_path / "a.pt"
    )
    subject = open_subject(str(tmp_path / "a.pt"))
    assert [(t.name, t.tied) for t in subject.tensors() if t.tied] == [("a.weight", ("b.weight",))]
    assert subject.facts["n_parameters"] == 6 + 2 and subject.task is None
    notes = " ".join(subject.facts["notes"])
    assert "1 value of 1 tensor NaN or infinite" in notes and "without elements" in notes
    with pytest.raises(UserError, match="must come with its config.json"):
        _ = subject.model


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn", "complex64", "int16", "bool"])
def test_every_type_that_is_kept_is_kept_bit_for_bit(tmp_path, dtype):
    sys.path.append(str(sandbox.HERE))
    try:
        import unpickle
    finally:
        sys.path.remove(str(sandbox.HERE))
    made = (torch.arange(12) % 2 if dtype == "bool" else torch.arange(12)).to(getattr(torch, dtype)).reshape(3, 4).t()
    torch.save({"a": made}, tmp_path / "a.pt")
    unpickle.convert(tmp_path / "a.pt", tmp_path, all_names=False)
    found = load_file(tmp_path / "model.safetensors")["a"]
    assert found.dtype == made.dtype and torch.equal(
        found.float() if dtype.startswith("float8") else found, made.float() if dtype.startswith("float8") else made
    )


def test_a_folder_with_a_bin_file_is_the_model_it_was(tiny_llama):
    ids = torch.arange(8)[None]
    with torch.no_grad():
        first = open_subject(str(tiny_llama)).model(ids).logits
        state = load_file(tiny_llama / "model.safetensors")
        as_bin(tiny_llama, **{"lm_head.weight": state["model.embed_tokens.weight"]})
        subject = open_subject(str(tiny_llama))
        assert torch.equal(subject.model(ids).logits, first)
    assert subject.task == "causal-lm" and subject.tokenizer is not None


def test_sharded_bin_files_are_one_model(tiny_llama):
    names = sorted(load_file(tiny_llama / "model.safetensors"))
    state = as_bin(tiny_llama)
    (tiny_llama / "pytorch_model.bin").unlink()
    for number, part in enumerate((names[:5], names[5:])):
        torch.save({name: state[name] for name in part}, tiny_llama / f"pytorch_model-{number}.bin")
    shards = {name: f"pytorch_model-{int(i >= 5)}.bin" for i, name in enumerate(names)}
    (tiny_llama / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": shards}))
    assert torch.equal(open_subject(str(tiny_llama)).model.model.norm.weight, state["model.norm.weight"])


def test_a_config_changed_beside_a_converted_file_is_heeded(tiny_llama):
    as_bin(tiny_llama)
    assert open_subject(str(tiny_llama)).model.config.hidden_act == "silu"
    config = json.loads((tiny_llama / "config.json").read_text())
    (tiny_llama / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert open_subject(str(tiny_llama)).model.config.hidden_act == "relu"


def test_a_converted_file_is_looked_into(tmp_path, own_cache):
    torch.save({"layers.0.mlp.gate_proj.weight": torch.ones(2, 3)}, tmp_path / "a.pt")
    assert look(tmp_path / "a.pt").n_parameters is None
    inside = torch_files.look_inside(tmp_path / "a.pt")
    assert inside.kind == "torch" and inside.n_parameters == 6 and inside.seems == "a gated decoder of the LLaMA family"


def test_an_optimisers_state_is_not_a_model(tmp_path, own_cache):
    model = torch.nn.Linear(2, 2)
    torch.save(torch.optim.Adam(model.parameters()).state_dict(), tmp_path / "optimizer.pt")
    with pytest.raises(Refused, match="the state of an optimiser"):
        torch_files.convert(tmp_path / "optimizer.pt")


def test_the_child_cannot_write_elsewhere_start_programs_or_reach_the_network(tmp_path):
    """What a file that did execute code would find: run in the child, in both ways, in place of the conversion."""
    (tmp_path / "out").mkdir()
    (tmp_path / "secret").write_text("a key")
    attack = textwrap.dedent("""
        import os, socket, subprocess
        REFUSALS = ()
        def prepare(): pass
        def convert(file, out):
            tried = {}
            def attempt(name, act):
                try: act(); tried[name] = "done"
                except OSError as error: tried[name] = type(error).__name__
            attempt("write", lambda: open(str(file) + ".written", "w"))
            attempt("program", lambda: subprocess.run(["true"]))
            attempt("system", lambda: os.system("true"))
            attempt("socket", lambda: socket.create_connection(("127.0.0.1", 9), 1))
            attempt("fork", os.fork)
            tried["environment"] = sorted(os.environ)
            tried["secret"] = os.path.exists(str(file.parent / "secret"))
            return tried
    """)
    (tmp_path / "file").write_text("")
    for wrap in (True, False):
        if wrap and sandbox.bubblewrap() is None:
            continue
        here = tmp_path / f"modules-{wrap}"
        here.mkdir()
        shutil.copy(sandbox.HERE / "child.py", here / "child.py")
        (here / "attack.py").write_text(attack)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sandbox, "HERE", here)
            patch.setattr(sandbox, "NEEDED", (*sandbox.NEEDED, here))
            sandbox.run("attack", tmp_path / "file", tmp_path / "out", sandbox.limits_for(0), how={}, wrap=wrap)
        tried = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert {tried[name] for name in ("write", "program", "system", "socket", "fork")} == {"PermissionError"}, (wrap, tried)
        assert not {"HOME", "PATH", "USER"} & set(tried["environment"])
        assert tried["secret"] is not wrap  # bubblewrap hides what lies beside the file (here in /tmp; at home, too)
    assert not (tmp_path / "file.written").exists()


def test_a_child_that_does_not_end_is_ended(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "file").write_text("")
    shutil.copy(sandbox.HERE / "child.py", tmp_path / "child.py")
    (tmp_path / "sleep.py").write_text("import time\nREFUSALS = ()\ndef prepare(): time.sleep(60)\n")
    limits = sandbox.Limits(2 * 10**9, 60, 1.0, 10**6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "HERE", tmp_path)
        patch.setattr(sandbox, "NEEDED", (*sandbox.NEEDED, tmp_path))
        start = time.monotonic()
        with pytest.raises(Refused, match="must be converted within"):
            sandbox.run("sleep", tmp_path / "file", tmp_path / "out", limits, how={})
    assert time.monotonic() - start < 10


def test_only_the_expected_files_of_a_child_are_taken(tmp_path, own_cache, monkeypatch):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")

    def child(module, file, out, limits, **_):
        (out / "model.safetensors").symlink_to("/etc/passwd")
        (out / "summary.json").write_text("{}")

    monkeypatch.setattr(sandbox, "run", child)
    with pytest.raises(Refused, match="must become one file of weights and a summary"):
        torch_files.convert(tmp_path / "a.pt")
    assert not list(own_cache.glob("torch-*"))


# Zips ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["", "my-model/"])
def test_a_zip_of_a_model_folder_is_that_model(tiny_llama, tmp_path, inside):
    first = open_subject(str(tiny_llama))
    path = zipped(tiny_llama, tmp_path / "upload", inside)
    assert look(path).kind == "zip" and look(path).can_run
    subject = open_subject(str(path))
    assert subject.fingerprints == first.fingerprints and subject.task == "causal-lm"
    assert torch.equal(subject.model.model.norm.weight, first.model.model.norm.weight)
    assert torch_files.look_inside(path).n_parameters == first.facts["n_parameters"]


def test_a_zip_with_a_bin_file_is_unpacked_and_converted(tiny_llama, tmp_path):
    state = as_bin(tiny_llama)
    subject = open_subject(str(zipped(tiny_llama, tmp_path / "a.zip", method=zipfile.ZIP_STORED)))
    assert torch.equal(subject.model.model.norm.weight, state["model.norm.weight"])


# Uploads ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def uploads(tmp_path):
    return Quarantine(tmp_path / "quarantine", cap=10**6, quota=2 * 10**6, keep_free=0)


def send(uploads, content, name="a.safetensors", chunk=1000):
    upload = uploads.begin(uploads.token(), name, len(content))
    for offset in range(0, len(content), chunk):
        uploads.write(upload, offset, content[offset : offset + chunk])
    return upload


def left(uploads):
    return sorted(one.name for one in uploads.folder.iterdir() if one.name != ".lock")


@pytest.fixture
def content(tmp_path):
    save_file({"a.weight": torch.randn(50, 40)}, tmp_path / "sent.safetensors")
    return (tmp_path / "sent.safetensors").read_bytes()


def test_an_upload_arrives_whole_hashed_under_a_random_name_and_opens(uploads, content, own_cache, caplog):
    with caplog.at_level("INFO", "sparsescope.uploads"):
        done = uploads.finish(send(uploads, content, "../../etc/<b>mine</b>.safetensors"))
    assert done.path.read_bytes() == content and done.sha256 == hashlib.sha256(content).hexdigest()
    assert re.fullmatch("[0-9a-f]{32}", done.path.parent.name) and done.path.name == "file"
    assert done.name == "b>.safetensors" and done.header.n_parameters == 2000
    assert done.sha256 in caplog.text and uploads.get(done.id) == done and uploads.uploads() == [done]
    assert open_subject(str(done.path)).label == done.name
    uploads.discard(done.id)
    assert left(uploads) == []


def test_an_upload_goes_on_where_it_stopped_also_in_another_process(uploads, content):
    upload = uploads.begin(uploads.token(), "a", len(content))
    uploads.write(upload, 0, content[:3000])
    other = Quarantine(uploads.folder, cap=uploads.cap, quota=uploads.quota, keep_free=0)
    assert other.received(upload) == 3000
    with pytest.raises(Refused, match="must begin at byte 3,000, got 0"):
        other.write(upload, 0, content)
    with pytest.raises(Refused, match="must be complete"):
        other.finish(upload)
    other.write(upload, 3000, content[3000:])
    assert other.finish(upload).sha256 == hashlib.sha256(content).hexdigest()


def test_a_token_allows_one_upload(uploads, monkeypatch):
    token = uploads.token()
    uploads.begin(token, "a", 10)
    for wrong in (token, "x" * 43, "../../etc/passwd", ""):
        with pytest.raises(Refused, match="must be allowed by a page"):
            uploads.begin(wrong, "a", 10)
    late = uploads.token()
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 4000)
    with pytest.raises(Refused, match="too old"):
        uploads.begin(late, "a", 10)


def test_cap_quota_and_free_disk_are_kept(uploads, tmp_path):
    with pytest.raises(Refused, match="between 1 byte and 1 MB, got 1 MB"):
        uploads.begin(uploads.token(), "a", 10**6 + 1)
    for _ in range(2):
        uploads.begin(uploads.token(), "a", 900_000)
    with pytest.raises(Refused, match="at most 2 MB together"):
        uploads.begin(uploads.token(), "a", 900_000)
    full = Quarantine(tmp_path / "full", keep_free=10**18)
    with pytest.raises(Refused, match="of the disk free"):
        full.begin(full.token(), "a", 10)
    assert left(full) == []


def test_an_upload_that_grows_too_large_is_deleted(uploads):
    upload = uploads.begin(uploads.token(), "a", 10)
    with pytest.raises(Refused, match="must have the 10 bytes it announced"):
        uploads.write(upload, 0, b"x" * 11)
    assert left(uploads) == []
    with pytest.raises(Refused, match="must have begun"):
        uploads.write(upload, 0, b"x")


def test_uploads_that_begin_end_and_are_given_up_at_once_do_not_disturb_each_other(uploads, content):
    """Each looks over the folder that the others change: what is gone meanwhile is no error."""
    from concurrent.futures import ThreadPoolExecutor

    def one(number):
        for _ in range(25):
            upload = uploads.begin(uploads.token(), f"{number}.safetensors", len(content))
            if number % 2:
                uploads.discard(upload)
            else:
                uploads.write(upload, 0, content)
                uploads.finish(upload)
                uploads.uploads()
                uploads.discard(upload)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert left(uploads) == []


def test_an_upload_deleted_while_it_is_looked_up_is_not_there(uploads, content, monkeypatch):
    upload = send(uploads, content)
    uploads.finish(upload)

    def deleted_first(path):
        uploads.discard(upload)
        return read_json(path)

    monkeypatch.setattr("analysis.models.files.arrived.read_json", deleted_first)
    with pytest.raises(Refused, match="was deleted"):
        uploads.get(upload)


def test_what_a_killed_check_left_has_not_arrived_and_is_swept_away(uploads, content, monkeypatch):
    def killed(_):
        raise KeyboardInterrupt

    upload = send(uploads, content)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("analysis.models.files.quarantine.look", killed)
        uploads.finish(upload)
    with pytest.raises(Refused, match="must have arrived"):
        uploads.get(upload)
    assert uploads.uploads() == [] and left(uploads) != []
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 25 * 3600)
    uploads.sweep()
    assert left(uploads) == []


def test_a_refused_upload_leaves_nothing_but_a_line_in_the_log(uploads, caplog):
    with caplog.at_level("INFO", "sparsescope.uploads"), pytest.raises(Refused, match="'evil.pkl', a bare pickle"):
        uploads.finish(send(uploads, b"\x80\x04" + b"x" * 100, "evil.pkl"))
    assert left(uploads) == [] and hashlib.sha256(b"\x80\x04" + b"x" * 100).hexdigest() in caplog.text


@pytest.mark.parametrize("wrong", ["", "..", "../../etc/passwd", "A" * 32, "0" * 31, "0" * 32 + "\n"])
def test_an_id_is_32_hexadecimal_digits(uploads, wrong):
    for act in (uploads.received, uploads.finish, uploads.discard, uploads.get):
        with pytest.raises(Refused, match="must be 32 hexadecimal digits"):
            act(wrong)


def test_uploads_nobody_goes_on_with_are_swept_away(uploads):
    upload = uploads.begin(uploads.token(), "a", 10)
    uploads.token()
    for one in uploads.folder.iterdir():
        os.utime(one, (1e9, 1e9))
    uploads.sweep()
    assert left(uploads) == []
    with pytest.raises(Refused, match="must have begun"):
        uploads.received(upload)


# Trust -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def exported(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    inputs = torch.randn(3, 4)
    torch.export.save(torch.export.export(model, (inputs,)), tmp_path / "a.pt2")
    return tmp_path / "a.pt2", model, inputs


def test_an_exported_program_needs_trust_and_then_is_a_full_model(exported, monkeypatch):
    path, model, inputs = exported
    monkeypatch.setattr(torch.export, "load", lambda *a, **k: pytest.fail("loaded without trust"))
    with pytest.raises(UserError, match="--trust"):
        open_subject(str(path))
    assert "--trust" in str(look(path).refusal) and look(path).kind == "exported"
    monkeypatch.undo()
    with trust.trusting():
        subject = open_subject(str(path))
    assert torch.equal(subject.model(inputs), model(inputs)) and subject.facts["n_parameters"] == 4 * 8 + 8 + 8 * 2 + 2
    batch, _ = next(subject.data.batches())
    assert torch.equal(batch[0], inputs)


def test_a_factory_needs_trust_and_brings_its_inputs(tmp_path, monkeypatch):
    (tmp_path / "my_making.py").write_text(
        "import torch\ndef make():\n    return torch.nn.Linear(4, 2), [torch.ones(3, 4)], lambda out, batch: out.sum(1)\n"
        "def wrong():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--trust"):
        open_subject(f"{FACTORY}my_making:make")
    assert "my_making" not in sys.modules
    with trust.trusting():
        subject = open_subject(f"{FACTORY}my_making:make", "python-docs")
        assert subject.facts["n_parameters"] == 10 and subject.data.n_windows == 3 and subject.loss is not None
        for name, says in (
            ("my_making:nobody", "can be imported"),
            ("my_making:wrong", "must return a model"),
            ("no spaces:x", "must be named"),
        ):
            with pytest.raises(UserError, match=says):
                open_subject(f"{FACTORY}{name}")
    sys.path.remove(str(tmp_path))


def test_nothing_but_the_command_line_can_give_trust():
    import dataclasses

    from analysis.jobs import JobSpec

    assert not [f.name for f in dataclasses.fields(JobSpec) if "trust" in f.name]
    callers = [p for folder in ("analysis", "ui", "pages", "store") for p in (ROOT / folder).rglob("*.py") if "trusting" in p.read_text()]
    assert {str(p.relative_to(ROOT)) for p in callers} == {"analysis/models/trust.py", "analysis/commands.py"}


def test_trust_cannot_be_sent_to_the_background(exported, tmp_path, capsys):
    from analysis.__main__ import main

    command = ["run", "weight_sparsity", "--model", str(exported[0]), "--store", str(tmp_path / "store")]
    assert main([*command, "--trust", "--detach"]) == 2
    assert "--detach" in capsys.readouterr().err
    assert main(command) == 2
    assert "--trust" in capsys.readouterr().err


def test_a_trusted_program_answers_a_question_from_the_command_line(exported, tmp_path, capsys):
    from analysis.__main__ import main

    command = ["run", "weight_sparsity", "--model", str(exported[0]), "--store", str(tmp_path / "store"), "--trust", "--now"]
    assert main(command) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.strip().endswith(".duckdb")
