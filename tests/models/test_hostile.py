"""Real hostile files, each made here: every one is refused with its sentence, and nothing of it runs, crashes or stays."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import stat
import struct
import time
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.models import open_subject
from analysis.models.files import Quarantine, Refused, look, sandbox
from analysis.spec import UserError

AT_ONCE_S = 3.0
"""For what is refused by its structure: it takes milliseconds, on a busy machine a little more."""
CHILD_S = 60.0


class Payload:
    """Executes when it is unpickled by anything that lets it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def debris(folder):
    """What is left in a folder, but for the list of file hashes and a lock."""
    return [one.name for one in folder.iterdir() if one.name not in ("file-hashes.sqlite", ".lock")] if folder.exists() else []


@pytest.fixture
def marker(tmp_path):
    yield tmp_path / "marker"
    assert not (tmp_path / "marker").exists(), "something was executed"


@pytest.fixture
def refused(tmp_path, own_cache, marker):
    """Open the file every way there is: by path, and as an upload; the sentence, which must be the same in both."""

    def attempt(path, says, within=AT_ONCE_S):
        start = time.monotonic()
        shown = look(path)
        assert time.monotonic() - start < AT_ONCE_S
        with pytest.raises(UserError, match=says) as caught:
            open_subject(str(path))
        took = time.monotonic() - start
        assert took < within
        assert str(path) in str(caught.value) or path.name in str(caught.value)
        if within == AT_ONCE_S:  # by its structure, without a process of its own
            assert shown.refusal == str(caught.value)
        assert debris(own_cache) == []
        if path.is_file():
            _upload(path, says, shown, opened=says.startswith("must hold tensors only"))
        return str(caught.value)

    def _upload(path, says, shown, opened):
        uploads = Quarantine(tmp_path / "quarantine", keep_free=0)
        upload = uploads.begin(uploads.token(), path.name, path.stat().st_size)
        with path.open("rb") as file:
            while chunk := file.read(2**24):
                uploads.write(upload, uploads.received(upload), chunk)
        if shown.refusal is not None:
            with pytest.raises(Refused, match=says) as caught:
                uploads.finish(upload)
            assert repr(path.name) in str(caught.value)
        else:
            done = uploads.finish(upload)
            if opened:  # once more from there: it takes a process of its own
                with pytest.raises(UserError, match=says):
                    open_subject(str(done.path))
            uploads.discard(upload)
        assert debris(tmp_path / "quarantine") == []

    return attempt


def raw_safetensors(path, header, n_bytes=0, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + b"\0" * n_bytes)
    return path


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


# Pickles ---------------------------------------------------------------------------------------------------------------


def test_the_payload_does_execute_where_it_is_let(tmp_path):
    """The control: without it, the tests below would pass on a harmless file."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", ["1", "0"], ids=["default", "without bubblewrap"])
def test_a_torch_file_that_executes(tmp_path, marker, refused, new, wrap, monkeypatch):
    monkeypatch.setenv(sandbox.BUBBLEWRAP, wrap)
    torch.save({"a": torch.ones(2), "b": Payload(marker)}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    refused(tmp_path / "a.pt", "must hold tensors only, got a pickle that asks for posix.system; save the model's state_dict", CHILD_S)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_bare_pickle_that_executes(tmp_path, marker, refused, protocol):
    (tmp_path / "a.bin").write_bytes(pickle.dumps(Payload(marker), protocol))
    refused(tmp_path / "a.bin", "a bare pickle, which is a program")


def test_a_model_folder_whose_bin_file_executes(tiny_llama, marker, refused):
    torch.save({"a": Payload(marker)}, tiny_llama / "pytorch_model.bin")
    (tiny_llama / "model.safetensors").unlink()
    refused(tiny_llama, "asks for posix.system", CHILD_S)


def test_an_honest_whole_module_is_refused_with_what_it_asks_for(tmp_path, refused):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "a.pt")
    said = refused(tmp_path / "a.pt", "torch.nn.modules.container.Sequential, torch.nn.modules.linear.Linear", CHILD_S)
    assert "builtins.set" not in said and "save the model's state_dict()" in said


def test_a_stride_zero_tensor_of_a_million_million_elements(tmp_path, refused):
    torch.save({"w": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_size < 3_000
    refused(tmp_path / "a.pt", r"'w' of shape \[1000000, 1000000\] \(1,000,000,000,000 elements\) over 4 bytes", CHILD_S)


def test_a_thousand_views_of_one_storage(tmp_path, refused):
    base = torch.zeros(300_000)
    torch.save({f"w{i}": base[i : i + 200_000] for i in range(1000)}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "must hold its tensors once", CHILD_S)


def test_tensors_that_are_not_dense(tmp_path, refused):
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "must hold dense tensors, got 'w' of another kind", CHILD_S)


def test_a_torch_file_with_paths_as_names(tmp_path, refused):
    torch.save({"../../etc/x": torch.ones(2)}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "got the path '../../etc/x'", CHILD_S)


def test_a_truncated_torch_file(tmp_path, refused):
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:-30])
    refused(tmp_path / "a.pt", "must be a complete zip archive")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_torch_file_whose_middle_is_missing(tmp_path, refused, new):
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[:100] + content[-300:])
    refused(tmp_path / "a.pt", "must be a complete", CHILD_S)


def test_a_zip_bomb_inside_a_torch_file(tmp_path, refused):
    torch.save({"a": torch.zeros(2**22)}, tmp_path / "honest.pt")
    with zipfile.ZipFile(tmp_path / "honest.pt") as honest, zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in honest.namelist():
            bomb.writestr(name, honest.read(name))
    assert (tmp_path / "a.pt").stat().st_size < 50_000
    refused(tmp_path / "a.pt", "must store its entries uncompressed")


def test_a_torch_file_whose_directory_lies_about_sizes(tmp_path, refused):
    torch.save({"a": torch.zeros(64)}, tmp_path / "a.pt")
    raw = bytearray((tmp_path / "a.pt").read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)  # both sizes of the first entry
    (tmp_path / "a.pt").write_bytes(raw)
    refused(tmp_path / "a.pt", "which overlaps")


def test_a_torchscript_archive(tmp_path, refused):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "a TorchScript archive, which is a program")


def test_an_exported_program_without_trust(tmp_path, refused):
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "a.pt2")
    refused(tmp_path / "a.pt2", "must come from somebody you trust.*--trust")


# Safetensors -----------------------------------------------------------------------------------------------------------

BAD_HEADERS = {
    "a header that claims 2^60 bytes": ({}, 0, 2**60, "a header that claims 1,152,921,504,606,846,976 bytes"),
    "overlapping offsets": ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, 12, None, "'b', which overlaps"),
    "a hole": ({"a": entry([2], 0, 8), "b": entry([2], 16, 24)}, 24, None, "'b', which leaves a hole"),
    "the same bytes twice": ({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, 8, None, "which overlaps"),
    "bytes beyond the last tensor": ({"a": entry([2], 0, 8)}, 9, None, "9 bytes of tensors where its header says 8"),
    "a truncated tensor": ({"a": entry([2], 0, 8)}, 7, None, "7 bytes of tensors where its header says 8"),
    "a shape larger than its bytes": ({"a": entry([10**6, 10**6], 0, 4)}, 4, None, "must give every tensor the bytes its shape needs"),
    "a shape that overflows": ({"a": entry([2**32, 2**32], 0, 0)}, 0, None, "must give every tensor the bytes its shape needs"),
    "an empty tensor with a side of 2^62": ({"a": entry([0, 2**62], 0, 0)}, 0, None, "sides of at most 16,777,216"),
    "a negative side": ({"a": entry([-1, -4], 0, 16)}, 16, None, "a shape of at most 16 whole numbers"),
    "a side that is true": ({"a": entry([True], 0, 4)}, 4, None, "a shape of at most 16 whole numbers"),
    "a side that is no whole number": ({"a": entry([1.0], 0, 4)}, 4, None, "a shape of at most 16 whole numbers"),
    "an unknown type": ({"a": entry([1], 0, 4, "Q9")}, 4, None, "a type that safetensors knows, got 'Q9'"),
    "duplicate keys": (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        1,
        None,
        "'a' twice",
    ),
    "a name that is a path": ({"../../etc/cron.d/x": entry([1], 0, 4)}, 4, None, "got the path '../../etc/cron.d/x'"),
    "an absolute name": ({"/etc/passwd": entry([1], 0, 4)}, 4, None, "got the path '/etc/passwd'"),
    "a name that cannot be written": (b'{"a\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1, None, "printable characters"),
    "a name with a terminal's commands": ({"a\x1b[2J": entry([1], 0, 4)}, 4, None, "printable characters"),
    "a name of a megabyte": ({"a" * 10**6: entry([1], 0, 4)}, 4, None, "1 to 512 printable characters"),
    "nested without end": (b'{"a":' + b"[" * 200_000, 0, None, "must have a header of JSON"),
    "a number of a million digits": (b'{"a":{"dtype":"U8","shape":[' + b"9" * 10**6 + b"]}}", 0, None, "must have a header of JSON"),
    "no JSON": (b"{'a': 1}", 0, None, "must have a header of JSON"),
    "no tensor": ({"a": 3}, 0, None, "must give every tensor a type"),
    "nested metadata": ({"__metadata__": {"a": {"b": "c"}}}, 0, None, "metadata of texts"),
    "500,000 tensors": (
        {f"t{i}": entry([0], 0, 0) for i in range(500_000)},
        0,
        None,
        "at most 200,000 tensors, got 500,000|header of at most",
    ),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_safetensors_file_with(tmp_path, refused, name):
    header, n_bytes, length, says = BAD_HEADERS[name]
    raw = raw_safetensors(tmp_path / "a.safetensors", header, n_bytes, length)
    within = 10.0 if "500" in name else AT_ONCE_S
    said = refused(raw, says, within) if "500" not in name else None
    if said is None:
        assert "tensors" in str(look(raw).refusal)
        with pytest.raises(UserError, match=says):
            open_subject(str(raw))


def test_a_header_of_200_megabytes_is_not_read(tmp_path, refused):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 200 * 10**6) + b"{")
        file.truncate(201 * 10**6)
    refused(path, "must have a header of at most 32 MB, got 200 MB")


def test_html_and_sql_in_names_are_text(tmp_path, own_cache, marker):
    """They are unusual, not harmful: the file opens, and they come out as they went in, in both formats."""
    names = [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "'; DROP TABLE tensors; --",
        "{{7*7}}",
        "$(touch marker)",
        "a b%00",
    ]
    state = {name: torch.ones(i + 1) for i, name in enumerate(names)}
    save_file(state, tmp_path / "a.safetensors", metadata={"title": names[0]})
    torch.save(state, tmp_path / "a.pt")
    assert {e.name for e in look(tmp_path / "a.safetensors").tensors} == set(names)
    assert look(tmp_path / "a.safetensors").metadata == {"title": names[0]}
    for file in ("a.safetensors", "a.pt"):
        subject = open_subject(str(tmp_path / file))
        assert {t.name: t.numel for t in subject.tensors()} == {name: i + 1 for i, name in enumerate(names)}
        assert all(t.read().numel() == t.numel for t in subject.tensors())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.pt", "a.safetensors", "cache"]


def test_nan_infinity_and_no_elements_are_flagged_not_refused(tmp_path, own_cache):
    state = {"nan.weight": torch.tensor([[float("nan"), float("inf"), 1.0]]), "none.weight": torch.empty(0, 7), "scalar": torch.tensor(2.0)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    assert "has no elements" in " ".join(look(tmp_path / "a.safetensors").notes)
    notes = " ".join(open_subject(str(tmp_path / "a.pt")).facts["notes"])
    assert "2 values of 1 tensor NaN or infinite, for example in 'nan.weight'" in notes and "'none.weight'" in notes
    assert {t.name: t.shape for t in open_subject(str(tmp_path / "a.safetensors")).tensors()} == {
        k: tuple(v.shape) for k, v in state.items()
    }


# GGUF ------------------------------------------------------------------------------------------------------------------


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(n_tensors=0, n_keys=0, body=b"", version=3):
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys) + body


def array(kind, length, body=b""):
    return text("a") + struct.pack("<IIQ", 9, kind, length) + body


BAD_GGUF = {
    "2^60 tensors": (gguf(2**60), "at most 200,000 tensors"),
    "2^60 keys": (gguf(0, 2**60), "at most 10,000 keys"),
    "an endless array": (gguf(0, 1, array(0, 2**40)), "claims 1,099,511,627,776 elements"),
    "an endless array of texts": (gguf(0, 1, array(8, 2**40)), "claims 1,099,511,627,776 elements"),
    "a real array of 20 MB": (gguf(0, 1, array(0, 20 * 10**6, b"\0" * 20 * 10**6)), "at most 1,000,000 elements, got 20,000,000"),
    "arrays in arrays": (gguf(0, 1, array(9, 1)), "arrays of numbers or texts"),
    "a text of 2^50 bytes": (gguf(0, 1, struct.pack("<Q", 2**50)), "short texts, got one that claims"),
    "an unknown type": (gguf(0, 1, text("a") + struct.pack("<I", 77)), "got type 77"),
    "a tensor of 2^31 dimensions": (gguf(1, 0, text("t") + struct.pack("<I", 2**31)), "at most 8 dimensions"),
    "a tensor beyond the end": (gguf(1, 0, text("t") + struct.pack("<IQQIQ", 2, 2**20, 2**20, 0, 0)), "which lies beyond the end"),
    "an unknown tensor type": (gguf(1, 0, text("t") + struct.pack("<IQIQ", 1, 4, 999, 0)), "types GGUF knows, got type 999"),
    "a name that is a path": (gguf(1, 0, text("../t") + struct.pack("<IQIQ", 1, 0, 0, 0)), "got the path '../t'"),
    "nothing after its first bytes": (b"GGUF", "ends within its header"),
    "another version": (gguf(version=99), "version 99"),
}


@pytest.mark.parametrize("name", BAD_GGUF)
def test_a_gguf_file_with(tmp_path, refused, name):
    content, says = BAD_GGUF[name]
    (tmp_path / "a.gguf").write_bytes(content)
    refused(tmp_path / "a.gguf", says)


def test_an_honest_header_of_an_unknown_architecture_is_refused_by_the_child(tmp_path, refused):
    body = text("general.architecture") + struct.pack("<I", 8) + text("nobody-knows")
    (tmp_path / "a.gguf").write_bytes(gguf(0, 1, body))
    refused(tmp_path / "a.gguf", "must be a language model whose GGUF architecture transformers can read", CHILD_S)


# Zips and folders ------------------------------------------------------------------------------------------------------


def with_entry(folder, to, name, content=b"x", mode=0, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(to, "w", method) as archive:
        for one in sorted(folder.iterdir()):
            archive.write(one, one.name)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = method
        archive.writestr(info, content)
    return to


BAD_ENTRIES = {
    "../outside.json": (0, "plain names, got '../outside.json'"),
    "a/../../outside.json": (0, "plain names"),
    "/tmp/outside.json": (0, "plain names, got '/tmp/outside.json'"),
    "..\\outside.json": (0, "plain names"),
    "C:outside.json": (0, "plain names"),
    "link.json": (stat.S_IFLNK | 0o777, "must hold files only, got the link 'link.json'"),
    "modeling_evil.py": (0, "'modeling_evil.py', code, which is never run"),
    "evil.so": (0, "'evil.so', code"),
    "sub/folder.json": (0, "without folders in it"),
    "CONFIG.JSON": (0, "twice"),
    "a\x07.json": (0, "plain names"),
}


@pytest.mark.parametrize("name", BAD_ENTRIES)
def test_a_zip_of_a_folder_with(tiny_llama, tmp_path, refused, name):
    mode, says = BAD_ENTRIES[name]
    refused(with_entry(tiny_llama, tmp_path / "a.zip", name, b"/etc/passwd", mode), says)
    assert not (tmp_path / "outside.json").exists() and not (tmp_path.parent / "outside.json").exists()


def test_a_zip_bomb_as_a_model_folder(tiny_llama, tmp_path, refused):
    big = with_entry(tiny_llama, tmp_path / "a.zip", "bomb.safetensors", b"\0" * 10**8, method=zipfile.ZIP_DEFLATED)
    assert big.stat().st_size < 300_000
    refused(big, "must hold entries that grow at most 100 times")


def test_a_zip_whose_entry_is_longer_than_its_directory_says(tiny_llama, tmp_path, refused):
    path = with_entry(tiny_llama, tmp_path / "a.zip", "x.txt", b"y" * 50_000, method=zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"tokenizer.json", raw.index(b"PK\x01\x02")) - 46
    raw[at + 24 : at + 28] = struct.pack("<I", 10)
    path.write_bytes(raw)
    refused(path, "must hold what its directory says|must be a complete zip archive", CHILD_S)  # seen when it is unpacked


def test_a_zip_inside_a_zip_is_not_followed(tiny_llama, tmp_path, refused):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("config.json", "{}")
    refused(with_entry(tiny_llama, tmp_path / "a.zip", "more.zip", inner.getvalue()), "'more.zip', a file that belongs to no model")


def test_a_zip_that_is_no_model(tmp_path, refused):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("holiday.txt", "sun")
    refused(tmp_path / "a.zip", "an archive; unpack it")


def test_a_folder_whose_python_files_are_needed_is_refused_and_one_that_does_not_need_them_opens(tiny_llama, marker, refused):
    code = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
    for name in ("modeling_evil.py", "configuration_evil.py", "tokenization_evil.py", "conftest.py", "__init__.py"):
        (tiny_llama / name).write_text(code)
    config = json.loads((tiny_llama / "config.json").read_text())
    auto = {"AutoConfig": "configuration_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    (tiny_llama / "config.json").write_text(json.dumps(config | {"auto_map": auto}))
    assert "which are never run" in " ".join(look(tiny_llama).notes)
    subject = open_subject(str(tiny_llama))
    assert type(subject.model).__module__.startswith("transformers.") and subject.tokenizer is not None
    (tiny_llama / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}))
    with pytest.raises(UserError, match="without remote code"):
        open_subject(str(tiny_llama))


BAD_CONFIGS = {
    "a billion layers": ({"num_hidden_layers": 10**9}, "must ask for at most 1,000 as 'num_hidden_layers'"),
    "a billion layers, nested": ({"text_config": {"num_layers": 10**9}}, "must ask for at most 1,000 as 'num_layers'"),
    "a million experts": ({"num_local_experts": 10**6}, "must ask for at most 10,000"),
    "code on a hub": ({"_attn_implementation": "evil/kernel"}, "must not name code on a hub, got 'evil/kernel'"),
    "matrices of a terabyte": ({"hidden_size": 2**18, "intermediate_size": 2**20, "head_dim": 2**17}, "must fit the weights beside it"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_config_that_asks_for(tiny_llama, marker, own_cache, name):
    more, says = BAD_CONFIGS[name]
    config = json.loads((tiny_llama / "config.json").read_text())
    (tiny_llama / "config.json").write_text(json.dumps(config | more))
    with pytest.raises(UserError, match=says):
        open_subject(str(tiny_llama))


def test_an_index_that_leads_out_of_the_folder(tiny_llama, refused):
    shutil.copy(tiny_llama / "model.safetensors", tiny_llama.parent / "other.safetensors")
    for wrong in ("../other.safetensors", str(tiny_llama.parent / "other.safetensors")):
        (tiny_llama / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": wrong}}))
        with pytest.raises(UserError, match="must name files in its own folder"):
            open_subject(str(tiny_llama))


def test_the_same_tensor_in_two_files_of_a_folder(tiny_llama):
    state = load_file(tiny_llama / "model.safetensors")
    save_file(state, tiny_llama / "model-1.safetensors")
    (tiny_llama / "model.safetensors").rename(tiny_llama / "model-2.safetensors")
    assert "must name every tensor once" in str(look(tiny_llama).refusal)


# Series and adapters ---------------------------------------------------------------------------------------------------


def test_a_series_with_a_checkpoint_that_executes(tmp_path, marker, own_cache):
    """Whichever step it is, nothing of it runs: the last is read at opening, the others when they are asked for."""
    for place in (1, 2):
        folder = tmp_path / f"evil at {place}"
        folder.mkdir()
        for step in (1, 2):
            torch.save({"w": Payload(marker) if step == place else torch.ones(2)}, folder / f"ckpt_{step}.pt")
        with pytest.raises(UserError, match=f"ckpt_{place}"):
            next(open_subject(str(folder)).series[place - 1].open().tensors())
    assert not marker.exists()


def test_a_series_member_that_leads_elsewhere_opens_as_what_it_is_or_not_at_all(tmp_path, own_cache):
    (tmp_path / "series").mkdir()
    save_file({"w": torch.ones(1)}, tmp_path / "series" / "step_1.safetensors")
    (tmp_path / "series" / "step_2.safetensors").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="step_2"):
        open_subject(str(tmp_path / "series"))


BAD_ADAPTERS = {
    "no JSON": (b"{", "must be"),
    "nested without end": (b'{"r":' + b"[" * 200_000, "must be"),
    "a list": (b"[1]", "must be a JSON object"),
}


@pytest.mark.parametrize("name", BAD_ADAPTERS)
def test_an_adapter_whose_settings_are(tmp_path, own_cache, name):
    content, says = BAD_ADAPTERS[name]
    save_file({"a.lora_A.weight": torch.ones(1, 2), "a.lora_B.weight": torch.ones(2, 1)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(UserError, match=f"adapter_config.json.*{says}"):
        open_subject(str(tmp_path))


def test_html_and_sql_in_the_names_of_a_gguf_file_are_text(tmp_path):
    name = "<img src=x onerror=alert(1)>'; DROP TABLE tensors; --"
    body = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    body += text(name) + struct.pack("<IQIQ", 1, 8, 0, 0)
    body += b"\0" * (-(24 + len(body)) % 32) + b"\0" * 32
    (tmp_path / "a.gguf").write_bytes(gguf(1, 1, body))
    assert [entry.name for entry in look(tmp_path / "a.gguf").tensors] == [name]
