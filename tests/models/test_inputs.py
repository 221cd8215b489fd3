"""Inputs of every kind: read as told, no more than is sampled, nothing executed, and a sentence for what cannot be read."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from analysis.jobs.request import checked
from analysis.models import TextWindows, open_subject, subject_from
from analysis.models.inputs import Examples, TextExamples, check_data, filed
from analysis.models.inputs.arrays import open_arrays, sampled
from analysis.models.inputs.naming import data_name
from analysis.spec import UserError

WORDS = " ".join(f"w{i}" for i in range(10))


class Explodes:
    """Unpickling it would write a file."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def mlp(features: int = 64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(features, 12), nn.ReLU(), nn.Linear(12, 10)).eval()


def vit(n_labels: int = 3, labels=None, channels: int = 3, size: int = 8):
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=size, patch_size=4,
        num_channels=channels, num_labels=n_labels,
    )  # fmt: skip
    if labels:
        config.id2label, config.label2id = dict(enumerate(labels)), {name: i for i, name in enumerate(labels)}
    return ViTForImageClassification(config).eval()


def read(data, model=None, **more):
    return subject_from(model or mlp(), data=str(data), **more).data


def refusal(data, model=None, **more) -> str:
    with pytest.raises(UserError) as caught:
        read(data, model, **more)
    text = str(caught.value)
    assert "\n" not in text and ", got" in text, text
    return text


def lines(path, records, ending="\n"):
    path.write_text("\n".join(json.dumps(r) if not isinstance(r, str) else r for r in records) + ending)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Records


def test_every_record_is_a_document(tiny_llama, tmp_path):
    data = lines(tmp_path / "a.jsonl", [{"text": WORDS}, {"text": WORDS[3:] + " w20"}, "", {"text": WORDS[6:] + " w21 w22"}])
    found = open_subject(str(tiny_llama), str(data), n_tokens=1000, window=10).data
    assert isinstance(found, TextWindows)
    assert found.documents == ["a.jsonl line 1", "a.jsonl line 2", "a.jsonl line 4"]
    assert found.fingerprint != open_subject(str(tiny_llama), str(data), n_tokens=1000, window=5).data.fingerprint


def test_the_field_is_chosen_by_name(tiny_llama, tmp_path):
    data = lines(tmp_path / "a.jsonl", [{"body": WORDS, "text": "w1"}])
    found = open_subject(str(tiny_llama), f"{data}?text=body", n_tokens=10, window=10).data
    assert found is not None and found.facts["n_tokens"] == 10


def jsonl_refusal(tiny_llama, data) -> str:
    with pytest.raises(UserError) as caught:
        open_subject(str(tiny_llama), str(data), n_tokens=1000, window=5)
    return str(caught.value)


def test_a_bad_line_is_named_with_its_number(tiny_llama, tmp_path):
    good = {"text": WORDS}
    cases = {
        "{not json": "cannot be read",
        "[1, 2]": "got a list",
        '{"text": 3}': "must be text, got a int",
        '{"text": null}': "",
        "[" * 100_000: "",
    }
    for line, words in cases.items():
        told = ""
        data = lines(tmp_path / "bad.jsonl", [good, "", line])
        if line == '{"text": null}':
            assert open_subject(str(tiny_llama), str(data), n_tokens=1000, window=5).data is not None, "an empty text is merely short"
            continue
        told = jsonl_refusal(tiny_llama, data)
        assert "bad.jsonl line 3" in told and words in told, told


def test_bytes_that_are_not_utf8_are_named_with_their_line(tiny_llama, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "w1 w2 w3 w4 w5"}\n{"text": "\xff\xfe"}\n')
    assert "a.jsonl line 2" in jsonl_refusal(tiny_llama, tmp_path / "a.jsonl")


def test_a_missing_field_is_told_with_the_fields_there_are(tiny_llama, tmp_path):
    told = jsonl_refusal(tiny_llama, lines(tmp_path / "a.jsonl", [{"body": WORDS, "stars": 3}]))
    assert "'text'" in told and "body, stars" in told and "?text=FIELD" in told


def test_an_empty_file_and_an_unknown_option_are_refused(tiny_llama, tmp_path):
    assert "at least one record" in jsonl_refusal(tiny_llama, lines(tmp_path / "a.jsonl", [], ""))
    assert "text, label, target" in jsonl_refusal(tiny_llama, str(lines(tmp_path / "b.jsonl", [{"text": WORDS}])) + "?colour=red")


def test_a_jsonl_file_is_not_read_beyond_what_is_sampled(tiny_llama, tmp_path):
    """Twenty thousand records, of which four are wanted: all the others could be broken."""
    import analysis.models.inputs.records as module

    data = lines(tmp_path / "a.jsonl", [{"text": WORDS + f" w{i % 30}"} for i in range(20_000)])
    visited = []
    original = module._Lines.read
    try:
        module._Lines.read = lambda self, row: visited.append(row) or original(self, row)
        open_subject(str(tiny_llama), str(data), n_tokens=40, window=10)
    finally:
        module._Lines.read = original
    assert len(set(visited)) < 20


def classifier(**more):
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    names = more.pop("names", None)
    config = BertConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=16, **more
    )
    if names:
        config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    return BertForSequenceClassification(config).eval()


@pytest.fixture
def words():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(
        models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[MASK]": 3} | {f"w{i}": i + 4 for i in range(36)}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


def test_labelled_texts_are_one_example_each_padded_and_cut(words, tmp_path):
    data = lines(tmp_path / "a.jsonl", [{"text": "w1 w2", "label": 1}, {"text": WORDS, "label": 0}, {"text": "w3", "label": 1}])
    found = read(data, classifier(), tokenizer=words, window=8, n_tokens=1000)
    assert isinstance(found, TextExamples)
    assert found.lengths.tolist() == [4, 8, 3] and found.facts["n_cut"] == 1
    assert found.token_ids[1].tolist()[-1] == 2, "the closing token stays where a text is cut"
    assert found.labels is not None and found.labels.tolist() == [1, 0, 1]
    batch, _ = next(iter(found.batches(2)))
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0], [1] * 8]
    assert found.only(np.array([2])).documents[found.only(np.array([2])).document[0]] == "a.jsonl line 3"


def test_label_names_are_those_of_the_model(words, tmp_path):
    data = lines(tmp_path / "a.jsonl", [{"text": "w1", "label": "Good"}, {"text": "w2", "label": "bad"}])
    found = read(data, classifier(names=["bad", "good"]), tokenizer=words, window=8)
    assert found.labels.tolist() == [1, 0] and found.facts["labels"] == "names in the model's config"
    odd = lines(tmp_path / "b.jsonl", [{"text": "w1", "label": "odd"}])
    unknown = read(odd, classifier(names=["bad", "good"]), tokenizer=words, window=8)
    assert unknown.labels is None and "'odd' is none" in unknown.facts["labels"]


def test_a_record_without_a_label_among_others_is_named(words, tmp_path):
    data = lines(tmp_path / "a.jsonl", [{"text": "w1", "label": 1}, {"text": "w2"}])
    assert "a.jsonl line 2" in refusal(data, classifier(), tokenizer=words, window=8)


# ---------------------------------------------------------------------------------------------------------------------
# Saved datasets


def saved(folder, split="test", **columns):
    import datasets

    datasets.DatasetDict({split: datasets.Dataset.from_dict(columns)}).save_to_disk(str(folder))
    return folder


def test_a_saved_dataset_is_read_without_its_library(tiny_llama, tmp_path, monkeypatch):
    saved(tmp_path / "corpus", text=[WORDS, WORDS[3:] + " w20"])
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    found = open_subject(str(tiny_llama), str(tmp_path / "corpus"), n_tokens=1000, window=10).data
    assert found.name == "corpus/test" and found.documents == ["corpus/test row 0", "corpus/test row 1"]


def test_the_script_of_a_dataset_is_never_run(tiny_llama, tmp_path):
    saved(tmp_path / "corpus", text=[WORDS])
    (tmp_path / "corpus" / "corpus.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert open_subject(str(tiny_llama), str(tmp_path / "corpus"), n_tokens=10, window=10).data is not None
    assert not (tmp_path / "ran").exists()


def test_class_names_of_a_dataset_are_matched_to_the_models(words, tmp_path):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["good", "bad"])})
    datasets.Dataset.from_dict({"text": ["w1", "w2"], "label": [0, 1]}, features=features).save_to_disk(str(tmp_path / "d"))
    assert read(tmp_path / "d", classifier(names=["bad", "good"]), tokenizer=words, window=8).labels.tolist() == [1, 0], (
        "by name, not by number"
    )
    assert read(tmp_path / "d", classifier(), tokenizer=words, window=8).labels.tolist() == [0, 1]


def test_parquet_files_are_read_group_by_group(tiny_llama, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": [f"w{i} {WORDS}" for i in range(30)]}), tmp_path / "a.parquet", row_group_size=7)
    found = open_subject(str(tiny_llama), str(tmp_path / "a.parquet"), n_tokens=1000, window=10).data
    assert found.facts["n_documents_total"] == 30


def test_bad_datasets_are_refused(tiny_llama, tmp_path):
    saved(tmp_path / "d", text=[WORDS])
    assert "must be one of test" in jsonl_refusal(tiny_llama, f"{tmp_path / 'd'}?split=train")
    file = next((tmp_path / "d").rglob("*.arrow"))
    file.write_bytes(file.read_bytes()[:100])
    assert "complete Arrow or Parquet" in jsonl_refusal(tiny_llama, tmp_path / "d")
    file.unlink()
    assert "without" in jsonl_refusal(tiny_llama, tmp_path / "d")
    (tmp_path / "d" / "test" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../../secret.arrow"}]}))
    assert "without '../../secret.arrow'" in jsonl_refusal(tiny_llama, tmp_path / "d")


# ---------------------------------------------------------------------------------------------------------------------
# Arrays


def test_an_npz_gives_its_rows_with_their_labels(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32), np.arange(50) % 10
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", x=x, y=y)
        found = read(tmp_path / "a.npz", n_tokens=7 * 128)
        assert isinstance(found, Examples) and found.n_windows == 7
        rows = [int(name.split()[1]) for name in found.documents]
        values = torch.cat([batch for batch, _ in found.batches(3)]).numpy()
        assert np.array_equal(values, x[rows]) and found.labels.tolist() == y[rows].tolist()


def test_asking_for_more_rows_only_adds_some(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((50, 64)))
    few, many = (set(read(tmp_path / "a.npz", n_tokens=n * 128).documents) for n in (5, 20))
    assert few < many and len(many) == 20


def test_only_sampled_rows_of_an_npz_are_kept(tmp_path):
    """A file of 80 MB, of which 16 rows are wanted."""
    import tracemalloc

    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((20_000, 1000), np.float32))
    tracemalloc.start()
    read(tmp_path / "a.npz", mlp(1000), n_tokens=16 * 128)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


@pytest.mark.parametrize("kind", ["pair", "names", "tensor"])
def test_torch_files_hold_a_pair_names_or_one_tensor(tmp_path, kind):
    x, y = torch.randn(6, 64), torch.arange(6)
    torch.save({"pair": (x, y), "names": {"inputs": x, "labels": y}, "tensor": x}[kind], tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert torch.equal(next(iter(found.batches(6)))[0], x)
    assert (found.labels is None) == (kind == "tensor")


def test_safetensors_and_the_choice_of_names(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(4, 64, dtype=torch.bfloat16), "b": torch.arange(4)}, tmp_path / "a.safetensors")
    assert "name the array" in refusal(tmp_path / "a.safetensors")
    found = read(f"{tmp_path / 'a.safetensors'}?x=a&y=b")
    assert found.labels.tolist() == [0, 1, 2, 3] and next(iter(found.batches(4)))[0].dtype == torch.float32


def test_rows_of_token_ids_are_windows_for_a_model_that_reads_tokens(tiny_llama, tmp_path):
    np.savez(tmp_path / "a.npz", input_ids=np.arange(30).reshape(3, 10))
    found = open_subject(str(tiny_llama), str(tmp_path / "a.npz")).data
    assert isinstance(found, TextWindows) and found.token_ids.tolist() == np.arange(30).reshape(3, 10).tolist()
    np.savez(tmp_path / "b.npz", input_ids=np.arange(30, 60).reshape(3, 10))
    assert "from 0 to 39" in jsonl_refusal(tiny_llama, tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=np.zeros((3, 10)))
    assert "token ids" in jsonl_refusal(tiny_llama, tmp_path / "c.npz")


def test_object_arrays_and_pickles_are_refused_and_not_run(tmp_path):
    ran = tmp_path / "ran"
    np.savez(tmp_path / "a.npz", x=np.array([Explodes(ran)], dtype=object))
    assert "Python objects" in refusal(tmp_path / "a.npz")
    torch.save({"x": torch.zeros(2), "y": Explodes(ran)}, tmp_path / "b.pt")
    assert "Python objects" in refusal(tmp_path / "b.pt")
    (tmp_path / "c.pt").write_bytes(pickle.dumps(Explodes(ran)))
    assert "torch.save's present format" in refusal(tmp_path / "c.pt")
    (tmp_path / "d.npy").write_bytes(pickle.dumps(Explodes(ran)))
    assert "complete file of plain arrays" in refusal(tmp_path / "d.npy")
    assert not ran.exists()


def lying_npz(path, shape, dtype="<f4", body=b"\0" * 64):
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", buffer.getvalue() + body)


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    lying_npz(tmp_path / "a.npz", (2**60,))
    assert "as many bytes as its headers say" in refusal(tmp_path / "a.npz")
    lying_npz(tmp_path / "b.npz", (-4, -4))
    assert ", got" in refusal(tmp_path / "b.npz")


def test_a_tensor_that_repeats_one_number_10_to_the_12_times_is_refused(tmp_path):
    torch.save({"x": torch.zeros(1).as_strided((10, 10**11), (0, 0))}, tmp_path / "a.pt")
    assert "at most 2 GB" in refusal(tmp_path / "a.pt")


def test_a_compressed_torch_file_is_refused(tmp_path):
    torch.save({"x": torch.zeros(1000, 64)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    assert "uncompressed" in refusal(tmp_path / "b.pt")


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.pt", "a.safetensors"])
def test_truncated_and_empty_files_are_refused(tmp_path, name):
    from safetensors.torch import save_file

    x = torch.randn(40, 64)
    path = tmp_path / name
    {
        ".npz": lambda: np.savez(path, x=x.numpy()), ".npy": lambda: np.save(path, x.numpy()),
        ".pt": lambda: torch.save(x, path), ".safetensors": lambda: save_file({"x": x}, path),
    }[path.suffix]()  # fmt: skip
    assert read(path).n_windows == 16
    whole = path.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        refusal(path)


def test_labels_and_shapes_that_do_not_fit_are_refused(tmp_path):
    x = np.zeros((4, 64), np.float32)
    for y, words in ((np.zeros(3, int), "one number an example"), (np.zeros(4), "whole numbers"), (np.zeros((4, 2), int), "one number")):
        np.savez(tmp_path / "a.npz", x=x, y=y)
        assert words in refusal(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.zeros((4, 8, 8, 3)))
    assert "channels second" in refusal(tmp_path / "b.npz", vit())
    np.savez(tmp_path / "c.npz", x=np.zeros((0, 64)))
    assert "counts examples" in refusal(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", x=np.array(["a", "b"]))
    assert "must hold numbers" in refusal(tmp_path / "d.npz")


def test_columns_first_arrays_are_read_right(tmp_path):
    x = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    np.save(tmp_path / "a.npy", x)
    named = data_name(str(tmp_path / "a.npy"))
    assert sampled(open_arrays(named).x, np.array([1, 3]), named.path).tolist() == x[[1, 3]].tolist()


# ---------------------------------------------------------------------------------------------------------------------
# Images and digits


def picture(path, colour, size=(20, 10), mode="RGB"):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_a_subfolder_is_a_class_and_pixels_are_scaled_as_said(tmp_path):
    for name, colour in (
        ("b/one.png", (255, 0, 0)),
        ("a/two.png", (0, 0, 0)),
        ("a/deep/three.jpg", (255, 255, 255)),
        ("c/four.png", (0, 0, 255)),
    ):
        picture(tmp_path / "set" / name, colour)
    found = read(tmp_path / "set", vit())
    assert found.documents == ["a/deep/three.jpg", "a/two.png", "b/one.png", "c/four.png"]
    assert found.labels.tolist() == [0, 0, 1, 2] and found.facts["labels"] == "order of the names in the data"
    batch, _ = next(iter(found.batches(4)))
    pixels = batch["pixel_values"]
    assert pixels.shape == (4, 3, 8, 8)
    assert pixels[:, :, 4, 4].round(decimals=1).tolist() == [[1, 1, 1], [-1, -1, -1], [1, -1, -1], [-1, -1, 1]]
    assert "(value - 0.5) / 0.5" in found.facts["images"]


def test_class_folders_go_by_the_models_names_and_unknown_ones_give_no_labels(tmp_path):
    picture(tmp_path / "set" / "cat" / "1.png", 0)
    picture(tmp_path / "set" / "dog" / "1.png", 0)
    assert read(tmp_path / "set", vit(3, ["dog", "bird", "cat"])).labels.tolist() == [2, 0]
    found = read(tmp_path / "set", vit(3, ["lorry", "bird", "cat"]))
    assert found.labels is None and "'dog' is none" in found.facts["labels"]


def test_images_are_made_as_the_models_own_processor_does(tmp_path):
    from PIL import Image
    from transformers import AutoImageProcessor

    folder = tmp_path / "model"
    vit().save_pretrained(folder)
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 8, "width": 8},
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 20, 3), dtype=np.uint8))
    (tmp_path / "set").mkdir()
    noise.save(tmp_path / "set" / "a.png")
    found = open_subject(str(folder), str(tmp_path / "set")).data
    batch, _ = next(iter(found.batches(1)))
    expected = AutoImageProcessor.from_pretrained(folder)(images=[noise], return_tensors="pt")["pixel_values"]
    assert torch.equal(batch["pixel_values"], expected)
    assert "own image processor" in found.facts["images"] and found.labels is None


def test_bad_images_are_refused_with_their_name(tmp_path):
    picture(tmp_path / "set" / "a" / "1.png", 0)
    (tmp_path / "set" / "a" / "2.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")
    with pytest.raises(UserError, match="2.png must be an image"):
        list(read(tmp_path / "set", vit()).batches(8))
    content = (tmp_path / "set" / "a" / "1.png").read_bytes()
    (tmp_path / "set" / "a" / "2.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="2.png"):
        list(read(tmp_path / "set", vit()).batches(8))


def test_images_of_a_dataset_come_from_its_bytes_and_never_from_a_path(tmp_path):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 255, 255)).save(buffer, "PNG")
    rows = [{"bytes": buffer.getvalue(), "path": "x.png"}] * 2
    pq.write_table(pa.table({"image": rows, "label": [1, 2]}), tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet", vit())
    assert found.labels.tolist() == [1, 2] and float(next(iter(found.batches(2)))[0]["pixel_values"].min()) == 1.0
    picture(tmp_path / "x.png", 0)
    pq.write_table(pa.table({"image": [{"bytes": None, "path": str(tmp_path / "x.png")}]}, schema=pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])), tmp_path / "b.parquet")  # fmt: skip
    assert "must hold the bytes of an image" in refusal(tmp_path / "b.parquet", vit())


def test_digits_come_in_the_shape_that_the_model_reads():
    from sklearn.datasets import load_digits

    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10))
    shapes = {(64,): mlp(), (1, 8, 8): conv, (784,): mlp(784)}
    for shape, model in shapes.items():
        found = read("digits", model, n_tokens=5 * 128)
        batch, _ = next(iter(found.batches(5)))
        assert tuple(batch.shape) == (5, *shape) and model(batch).shape == (5, 10)
        assert float(batch.min()) >= 0 and float(batch.max()) == 1
    rows = [int(name.split()[1]) for name in read("digits", n_tokens=5 * 128).documents]
    assert torch.equal(
        next(iter(read("digits", n_tokens=5 * 128).batches(5)))[0], torch.from_numpy((load_digits().data[rows] / 16).astype(np.float32))
    )
    assert "resized from 8 x 8 to 28 x 28" in read("digits", mlp(784)).facts["images"]
    assert next(iter(read("digits", vit()).batches(2)))[0]["pixel_values"].shape == (2, 3, 8, 8)


def test_digits_of_every_kind_have_their_labels():
    from sklearn.datasets import load_digits

    found = read("digits", n_tokens=10**6)
    assert found.n_windows == 1797 and found.labels.tolist() == load_digits().target.tolist()


# ---------------------------------------------------------------------------------------------------------------------
# What does not belong together


def test_data_of_the_wrong_kind_are_refused_in_both_directions(tiny_llama, tmp_path):
    picture(tmp_path / "set" / "a.png", 0)
    assert "text or token ids" in jsonl_refusal(tiny_llama, "digits")
    assert "text or token ids" in jsonl_refusal(tiny_llama, tmp_path / "set")
    assert "must be images" in refusal("python-docs", vit())


def test_folders_are_recognised_by_what_they_hold_most_of(tmp_path):
    picture(tmp_path / "set" / "a" / "1.png", 0)
    picture(tmp_path / "set" / "a" / "2.png", 0)
    (tmp_path / "set" / "README.txt").write_text("licence")
    assert data_name(str(tmp_path / "set")).kind == "images"
    (tmp_path / "empty").mkdir()
    assert ".txt files, images or a saved dataset" in refusal(tmp_path / "empty")
    assert "digits" in refusal(tmp_path / "nowhere")


def test_a_job_files_data_by_absolute_path_with_its_fields(tmp_path, monkeypatch, tiny_llama):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "a.jsonl", [{"body": WORDS}])
    assert filed("a.jsonl?text=body") == f"{tmp_path / 'a.jsonl'}?text=body"
    assert (filed("digits"), filed("python-docs")) == ("digits", "python-docs")
    assert checked("task_loss", str(tiny_llama), "a.jsonl?text=body").data == f"{tmp_path / 'a.jsonl'}?text=body"
    with pytest.raises(UserError, match="'text'"):
        check_data("a.jsonl")
    (tmp_path / "odd?name.txt").write_text(WORDS)
    assert data_name("odd?name.txt").kind == "text"


def test_a_subset_keeps_its_values_labels_and_document_numbers():
    found = read("digits", n_tokens=20 * 128)
    some = found.only(np.array([3, 7]))
    whole = torch.cat([batch for batch, _ in found.batches(9)])
    assert torch.equal(next(iter(some.batches(2)))[0], whole[[3, 7]])
    assert some.document.tolist() == [3, 7] and some.labels.tolist() == found.labels[[3, 7]].tolist()
    assert some.fingerprint != found.fingerprint
