"""Tasks: the right one is chosen, losses are transformers' own, nothing depends on padding, batches or pieces, splits are disjoint."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from analysis.models import GivenBatches, TextWindows, subject_from
from analysis.models.inputs import TextExamples, shifted
from analysis.spec import IncompatibleSubject, UnknownName, UserError
from analysis.tasks import Losses, choose_task, difference, mean_accuracy, mean_loss, possible_tasks, split_documents
from tests import zoo

V = 60


class FakeTokenizer:
    """Only what a task asks of a tokenizer."""

    mask_token_id = 1
    all_special_ids = ()

    def __init__(self, mask=1) -> None:
        self.mask_token_id = mask

    def get_vocab(self):
        return {"[MASK]": 1}


def ids(n=6, length=9, seed=0):
    return torch.randint(3, V, (n, length), generator=torch.Generator().manual_seed(seed))


def windows(n=6, length=9, **more) -> TextWindows:
    return TextWindows.from_ids(ids(n, length), **more)


class Says(nn.Module):
    """A language model that puts all its trust in the token after the one it reads (its rows), or in none."""

    def __init__(self, trust: float) -> None:
        super().__init__()
        self.trust = nn.Parameter(torch.tensor(trust))

    def forward(self, input_ids):
        return torch.nn.functional.one_hot((input_ids + 1) % V, V) * self.trust


def language(trust, data):
    return subject_from(Says(trust), data=data)


# ---------------------------------------------------------------------------------------------------------------------
# Known answers


def test_a_model_without_a_clue_loses_exactly_ln_v_on_every_token():
    subject = language(0.0, windows())
    losses = choose_task(subject, "causal-lm").losses(subject.model)
    assert losses.n.tolist() == [8] * 6, "the first token of a window is not predicted"
    assert losses.total.tolist() == pytest.approx([8 * math.log(V)] * 6, abs=1e-12)


def test_a_model_that_knows_the_answers_loses_nothing():
    rising = np.arange(40).reshape(4, 10) % V
    subject = language(1e4, TextWindows.from_ids(rising))
    losses = choose_task(subject, "causal-lm").losses(subject.model)
    assert losses.total.tolist() == [0.0] * 4 and losses.n_right.tolist() == [9] * 4
    wrong = language(1e4, TextWindows.from_ids(rising[:, ::-1]))
    assert choose_task(wrong, "causal-lm").losses(wrong.model).n_right.tolist() == [0] * 4


def test_special_tokens_are_not_scored_but_read():
    data = windows(2, 5)
    data.special = np.array([[True, False, False, True, False], [False, False, False, False, True]])
    subject = language(0.0, data)
    assert choose_task(subject, "causal-lm").losses(subject.model).n.tolist() == [3, 3]


def test_an_infinite_loss_is_counted_and_never_averaged_away():
    class Forbids(Says):
        def forward(self, input_ids):
            logits = torch.zeros(*input_ids.shape, V)
            logits[:, :, 7] = -math.inf
            return logits

    data = TextWindows.from_ids([[1, 7, 2], [1, 2, 3]])
    subject = subject_from(Forbids(0.0), data=data)
    losses = choose_task(subject, "causal-lm").losses(subject.model)
    assert losses.n_endless.tolist() == [1, 0]
    assert losses.total.tolist() == pytest.approx([math.log(V - 1), 2 * math.log(V - 1)])
    assert mean_loss(losses) is None


# ---------------------------------------------------------------------------------------------------------------------
# a loss that came with the model


def made_by_factory(tmp_path, monkeypatch, loss, name):
    from analysis.models import open_subject, trust
    from analysis.models.places import FACTORY

    (tmp_path / f"{name}.py").write_text(
        "import torch\n"
        "def make():\n"
        "    model = torch.nn.Linear(3, 1, bias=False)\n"
        "    model.weight.data = torch.tensor([[1.0, 2.0, 3.0]])\n"
        "    batches = [torch.eye(3), 2 * torch.eye(3)[:2]]\n"
        f"    return model, batches, {loss}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with trust.trusting():
        return open_subject(f"{FACTORY}{name}:make")


def test_a_factory_that_brings_a_loss_is_scored_by_it_example_by_example(tmp_path, monkeypatch):
    subject = made_by_factory(tmp_path, monkeypatch, "lambda out, batch: (out - batch.sum(1, keepdim=True)).squeeze(1) ** 2", "own_squares")
    task = choose_task(subject)
    assert task.name == "own" and not task.knows_right and "own" in possible_tasks(subject)
    losses = task.losses(subject.model)
    assert losses.total.tolist() == [0.0, 1.0, 4.0, 0.0, 4.0]  # (w_i x - x)^2 of x e_i: x = 1, 1, 1, 2, 2
    assert losses.n.tolist() == [1] * 5
    assert choose_task(subject, "divergence").is_divergence, "it can be overridden"


def test_another_loss_is_another_question_of_the_data(tmp_path, monkeypatch):
    one = made_by_factory(tmp_path, monkeypatch, "lambda out, batch: out.sum(1)", "own_a").fingerprints
    other = made_by_factory(tmp_path, monkeypatch, "lambda out, batch: 2 * out.sum(1)", "own_b").fingerprints
    assert one["data"] != other["data"] and one["weights"] == other["weights"]


def test_the_hash_of_a_loss_follows_its_code_its_names_and_its_numbers():
    from analysis.models.fingerprints import function_fingerprint

    def of(body):
        return function_fingerprint(eval(f"lambda out, batch: {body}"))

    bodies = (
        "out + batch",
        "out - batch",
        "out.sum(1)",
        "out.mean(1)",
        "2 * out",
        "3 * out",
        "[x + 1 for x in out]",
        "[x + 2 for x in out]",
    )
    assert len({of(body) for body in bodies}) == len(bodies) and of(bodies[0]) == of(bodies[0])
    code = "from analysis.models.fingerprints import function_fingerprint as f; print(f(lambda o, b: o in {'a', 'b', 'c', 'd'}))"
    seeds = [os.environ | {"PYTHONHASHSEED": seed} for seed in "12"]
    said = {subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout for env in seeds}
    assert len(said) == 1, "and is the same in every process"


def test_a_loss_that_is_a_mean_is_refused(tmp_path, monkeypatch):
    subject = made_by_factory(tmp_path, monkeypatch, "lambda out, batch: out.mean()", "own_mean")
    with pytest.raises(UserError, match="one number for each of the 3 examples"):
        choose_task(subject).losses(subject.model)


def test_the_task_own_needs_a_loss_that_came_along():
    with pytest.raises(IncompatibleSubject, match="came without a loss"):
        choose_task(language(1.0, windows()), "own")


def test_task_loss_seals_the_own_loss_and_says_nothing_about_accuracy(tmp_path, monkeypatch):
    from analysis.quality.task_loss import TASK_LOSS, TaskLossConfig
    from analysis.runner import run
    from store import Store

    subject = made_by_factory(tmp_path, monkeypatch, "lambda out, batch: -out.squeeze(1)", "own_negative")
    store = Store(tmp_path / "store")
    info = run(TASK_LOSS, {"model": subject}, TaskLossConfig(), store)
    (row,) = store.read(info, "loss_summary").to_dict("records")
    assert (row["task"], row["loss"]) == ("own", -(1 + 2 + 3 + 2 + 4) / 5), "and it may be negative"
    assert store.read(info, "loss_summary")[["accuracy", "perplexity"]].isna().all().all()
    assert store.read(info, "losses")["n_correct"].isna().all()
    for figure in TASK_LOSS.figures:
        assert figure.draw(store.read(info, figure.table), store.provenance(info)).sentence


# ---------------------------------------------------------------------------------------------------------------------
# transformers' own loss


@pytest.mark.parametrize("made", [zoo.llama, zoo.gpt2], ids=lambda f: f.__name__)
def test_causal_loss_is_transformers_own(made):
    model, _ = made()
    subject = subject_from(model, data=windows())
    task = choose_task(subject)
    losses = task.losses(model, 4)
    with torch.no_grad():
        own = float(model(input_ids=ids(), labels=ids()).loss)
    assert task.name == "causal-lm"
    assert losses.total.sum() / losses.n.sum() == pytest.approx(own, abs=1e-6)


def test_masked_loss_is_transformers_own_on_the_same_mask():
    model, _ = zoo.bert()
    subject = subject_from(model, data=windows(6, 20, inputs=("input_ids", "attention_mask")), tokenizer=FakeTokenizer())
    task = choose_task(subject, seed=3)
    (batch,) = task.batches(6)
    assert task.name == "masked-lm"
    assert (batch.targets != -100).sum(dim=1).tolist() == [3] * 6, "15 % of 20"
    assert (batch.inputs["input_ids"][batch.targets != -100] == 1).all()
    with torch.no_grad():
        own = float(model(**batch.inputs, labels=batch.targets).loss)
    losses = task.losses(model, 6)
    assert losses.total.sum() / losses.n.sum() == pytest.approx(own, abs=1e-6)


def test_sequence_to_sequence_loss_is_transformers_own_with_and_without_a_target():
    model, _ = zoo.t5()
    both = ("input_ids", "attention_mask", "decoder_input_ids")
    subject = subject_from(model, data=windows(inputs=both))
    task = choose_task(subject)
    with torch.no_grad():
        own = float(model(input_ids=ids(), labels=ids()).loss)
    losses = task.losses(model, 4)
    assert task.name == "seq2seq" and losses.n.tolist() == [9] * 6
    assert losses.total.sum() / losses.n.sum() == pytest.approx(own, abs=1e-6)

    targets = ids(6, 5, seed=1).numpy()
    targets[2, 3:] = targets[4, 1:] = -100
    pairs = TextExamples(
        "pairs",
        ids().numpy(),
        np.full(6, 9),
        np.zeros((6, 9), bool),
        [str(i) for i in range(6)],
        np.arange(6),
        {},
        targets=targets,
        decoder_start=0,
    )
    with torch.no_grad():
        own = float(model(input_ids=ids(), labels=torch.from_numpy(targets)).loss)
    subject.data = pairs
    losses = choose_task(subject).losses(model, 4)
    assert losses.n.tolist() == [5, 5, 3, 5, 1, 5]
    assert losses.total.sum() / losses.n.sum() == pytest.approx(own, abs=1e-6)


def test_decoder_inputs_by_hand():
    assert shifted(np.array([[5, 6, 7], [8, -100, -100]]), 9, 0).tolist() == [[9, 5, 6], [9, 8, 0]]


def test_classification_is_cross_entropy_and_accuracy_of_images():
    model, batch = zoo.vit()
    subject = subject_from(model, data=GivenBatches([batch], labels=[2, 0]))
    task = choose_task(subject)
    with torch.no_grad():
        output = model(**batch, labels=torch.tensor([2, 0]))
    losses = task.losses(model)
    assert task.name == "classification" and losses.n.tolist() == [1, 1]
    assert losses.total.mean() == pytest.approx(float(output.loss), abs=1e-6)
    assert losses.n_right.tolist() == (output.logits.argmax(1) == torch.tensor([2, 0])).int().tolist()


# ---------------------------------------------------------------------------------------------------------------------
# What must change nothing


@pytest.mark.parametrize("made", [zoo.llama, zoo.bert, zoo.t5], ids=lambda f: f.__name__)
def test_the_batch_size_changes_no_examples_loss(made):
    model, _ = made()
    inputs = {"llama": ("input_ids",), "bert": ("input_ids", "attention_mask")}.get(
        made.__name__, ("input_ids", "attention_mask", "decoder_input_ids")
    )
    subject = subject_from(model, data=windows(7, 12, inputs=inputs), tokenizer=FakeTokenizer())
    task = choose_task(subject, seed=1)
    whole, single = task.losses(model, 7), task.losses(model, 1)
    assert np.allclose(whole.total, single.total, atol=1e-6 * 12, rtol=0)
    assert whole.n.tolist() == single.n.tolist() and whole.example.tolist() == list(range(7))


def test_padding_changes_no_examples_loss():
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(vocab_size=V, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_labels=3)
    ).eval()
    lengths = np.array([3, 9, 5, 7])

    def examples(width):
        rows = np.full((4, width), 0, dtype=np.int64)
        rows[:, :9] = np.where(np.arange(9) < lengths[:, None], ids(4).numpy(), 0)
        names = [str(i) for i in range(4)]
        return TextExamples(
            "t", rows, lengths, np.arange(width) >= lengths[:, None], names, np.arange(4), {}, labels=np.array([0, 1, 2, 0])
        )

    found = []
    for width, size in ((9, 4), (30, 4), (9, 1)):
        subject = subject_from(model, data=examples(width))
        found.append(choose_task(subject).losses(model, size).total)
    assert np.allclose(found[0], found[1], atol=1e-6) and np.allclose(found[0], found[2], atol=1e-6)


def test_masked_tokens_are_the_same_in_every_split_and_batch():
    model, _ = zoo.bert()
    subject = subject_from(model, data=windows(12, 20, inputs=("input_ids", "attention_mask")), tokenizer=FakeTokenizer())
    whole = choose_task(subject, seed=5).losses(model, 12)
    part = choose_task(subject, split="report", seed=5).losses(model, 2)
    assert len(part) == 6
    assert np.allclose(part.total, whole.total[part.example], atol=1e-5)
    other = choose_task(subject, seed=6).losses(model, 12)
    assert not np.allclose(other.total, whole.total, atol=1e-3), "another seed hides other tokens"


def test_a_split_of_given_batches_keeps_each_examples_loss():
    torch.manual_seed(0)
    model = nn.Linear(4, 3).eval()
    x = torch.randn(11, 4)
    subject = subject_from(model, data=GivenBatches([(x[:5],), (x[5:],)], labels=np.arange(11) % 3))
    whole = choose_task(subject).losses(model)
    for split in ("calibration", "choice", "report"):
        part = choose_task(subject, split=split).losses(model)
        assert np.allclose(part.total, whole.total[part.example], atol=1e-6) and len(part)


# ---------------------------------------------------------------------------------------------------------------------
# Divergence


def perturbed(model):
    import copy

    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.3)
    return other


@pytest.mark.parametrize("name", ["gpt2", "bert", "vit", "mlp", "encoder", "t5"])
def test_a_model_does_not_diverge_from_itself_and_does_from_a_perturbed_one(name):
    model, batch = getattr(zoo, name)()
    subject = subject_from(model, data=[batch])
    task = choose_task(subject, "divergence")
    same = task.losses(model, reference=model)
    assert same.total.tolist() == [0.0] * len(same) and (same.n > 0).all()
    other = task.losses(perturbed(model), reference=model)
    assert (other.total > 0).all()
    assert ("KL" in task.unit) == (name in ("gpt2", "bert", "vit", "t5"))


def test_padding_does_not_diverge():
    model, batch = zoo.gpt2()
    subject = subject_from(model, data=[batch])
    assert choose_task(subject, "divergence").losses(perturbed(model), reference=model).n.tolist() == [7, 5]


def test_relative_error_of_doubled_outputs_is_one():
    model, twice = nn.Linear(4, 3, bias=False), nn.Linear(4, 3, bias=False)
    twice.weight.data = model.weight.data * 2
    subject = subject_from(model, data=[torch.randn(5, 4)])
    assert choose_task(subject).losses(twice, reference=model).total.tolist() == pytest.approx([1.0] * 5, abs=1e-6)


def test_a_divergence_without_a_reference_is_an_error():
    subject = subject_from(nn.Linear(4, 3), data=[torch.randn(5, 4)])
    with pytest.raises(ValueError, match="reference"):
        choose_task(subject).losses(subject.model)


# ---------------------------------------------------------------------------------------------------------------------
# Choosing


def test_the_task_follows_the_model_and_the_data():
    llama, bert, t5 = zoo.llama()[0], zoo.bert()[0], zoo.t5()[0]
    assert choose_task(subject_from(llama, data=windows())).name == "causal-lm"
    assert choose_task(subject_from(bert, data=windows(), tokenizer=FakeTokenizer())).name == "masked-lm"
    assert choose_task(subject_from(bert, data=windows())).name == "divergence", "without a mask token nothing can be hidden"
    assert choose_task(subject_from(t5, data=windows())).name == "seq2seq"
    assert choose_task(subject_from(llama.model, data=windows())).name == "divergence", "a model without a head"
    assert choose_task(subject_from(nn.Linear(4, 3), data=[torch.randn(5, 4)])).name == "divergence"
    assert choose_task(subject_from(nn.Linear(4, 3), data=GivenBatches([torch.randn(5, 4)], labels=[0] * 5))).name == "classification"


def refused(subject, task, **more) -> str:
    with pytest.raises(UserError) as caught:
        choose_task(subject, task, **more)
    return str(caught.value)


def test_what_cannot_be_is_refused_in_a_sentence():
    llama, bert = subject_from(zoo.llama()[0], data=windows()), subject_from(zoo.bert()[0], data=windows())
    vit, batch = zoo.vit()
    images = subject_from(vit, data=[batch])
    assert "its head is for another task (causal-lm)" in refused(llama, "masked-lm")
    assert "no mask token" in refused(bert, "masked-lm")
    assert "its head tells no classes apart" in refused(llama, "classification")
    assert "no labels" in refused(images, "classification")
    assert "not text" in refused(images, "causal-lm")
    assert "labels must be from 0 to 2" in refused(subject_from(vit, data=GivenBatches([batch], labels=[0, 3])), "classification")
    with pytest.raises(UnknownName, match="auto, causal-lm"):
        choose_task(llama, "dancing")
    with pytest.raises(IncompatibleSubject, match="no inputs"):
        choose_task(subject_from(nn.Linear(2, 2)))


def test_labels_beyond_a_plain_modules_classes_are_refused_when_they_are_seen():
    subject = subject_from(nn.Linear(4, 3), data=GivenBatches([torch.randn(2, 4)], labels=[0, 3]))
    with pytest.raises(UserError, match="labels must be from 0 to 2"):
        choose_task(subject).losses(subject.model)


def test_batches_are_made_smaller_where_the_vocabulary_is_large():
    task = choose_task(subject_from(zoo.llama()[0], data=windows(6, 9)))
    assert task.batch_size(1024) == 113
    import dataclasses

    assert dataclasses.replace(task, vocabulary=2**21).batch_size(1024) == 3
    assert dataclasses.replace(task, vocabulary=2**40).batch_size(1024) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Splits and differences


@pytest.mark.parametrize("n", [4, 5, 17, 100])
def test_splits_are_disjoint_cover_everything_and_none_is_empty(n):
    found = split_documents([f"d{i}" for i in range(n)], 0)
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(n))
    assert all(len(part) for part in found.values()) and len(found["report"]) >= 2


def test_no_document_is_in_two_splits_of_the_windows():
    data = windows(40, 9, document=np.arange(40) // 4)
    subject = language(0.0, data)
    seen = {}
    for split in ("calibration", "choice", "report"):
        task = choose_task(subject, "causal-lm", split=split, seed=2)
        seen[split] = set(task.losses(subject.model).document.tolist())
        assert task.facts["split"] == split and task.facts["n_documents"] == len(seen[split])
    assert not seen["calibration"] & seen["choice"] and not seen["choice"] & seen["report"] and not seen["calibration"] & seen["report"]
    assert set().union(*seen.values()) == set(range(10))


def test_another_seed_splits_differently_and_a_new_document_moves_few():
    names = [f"d{i}" for i in range(100)]
    one, other, more = split_documents(names, 0), split_documents(names, 1), split_documents([*names, "new"], 0)
    assert set(one["report"]) != set(other["report"])
    assert len(set(one["report"]) ^ (set(more["report"]) - {100})) <= 2


def test_too_few_documents_are_refused_with_what_to_do():
    subject = language(0.0, windows(9, 9, document=np.zeros(9, int)))
    assert refused(subject, "causal-lm", split="report").startswith("the data must hold at least 4 documents")
    assert "split=all" in refused(subject, "causal-lm", split="report")
    assert "calibration, choice, report, all" in refused(subject, "causal-lm", split="test")


def made(total, n=None, document=(0, 0, 1)):
    n = n or [2] * len(total)
    zero = np.zeros(len(total), np.int64)
    return Losses(np.arange(len(total)), np.asarray(document), np.asarray(n), np.asarray(total, float), zero, zero)


def test_sums_over_documents_and_the_mean_by_hand():
    found = made([1.0, 3.0, 8.0], [1, 1, 2]).by_document()
    assert found.total.tolist() == [4.0, 8.0] and found.n.tolist() == [2, 2]
    mean = mean_loss(made([1.0, 3.0, 8.0], [1, 1, 2]))
    assert mean is not None and mean.value == 3.0 and mean.n_documents == 2
    right = mean_accuracy(made([1.0, 3.0, 8.0]))
    assert right is not None and right.value == 0.0


def test_a_paired_difference_is_far_surer_than_the_losses():
    random = np.random.default_rng(0)
    base = random.exponential(5, 200)
    document = np.arange(200)
    one, other = made(base + 0.1 + random.normal(0, 0.01, 200), document=document), made(base, document=document)
    found, alone = difference(one, other), mean_loss(one)
    assert found is not None and alone is not None
    assert found.value == pytest.approx(0.05, abs=0.002)
    assert found.standard_error < alone.standard_error / 100
    assert difference(one, one).value == 0.0


def test_losses_of_different_examples_cannot_be_subtracted():
    with pytest.raises(ValueError, match="same examples"):
        difference(made([1.0, 2.0, 3.0]), made([1.0, 2.0, 3.0], [2, 2, 1]))


# ---------------------------------------------------------------------------------------------------------------------
# The real models


@pytest.mark.models
def test_minilm_has_no_labels_so_its_task_is_divergence_and_it_is_zero_from_itself():
    from analysis.models import open_subject

    subject = open_subject("minilm", "python-docs", n_tokens=256, window=32)
    task = choose_task(subject)
    assert (task.name, task.unit) == ("divergence", "relative error")
    assert task.losses(subject.model, reference=subject.model).total.tolist() == [0.0] * 8
    other = mean_loss(task.losses(perturbed(subject.model), reference=subject.model))
    assert other is not None and 0.01 < other.value < 10
