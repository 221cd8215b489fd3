"""task_loss seals what it should: losses by hand, the same after a kill, numbers that stay finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from analysis.models import GivenBatches, TextWindows, open_subject, subject_from
from analysis.quality.task_loss import TASK_LOSS, TaskLossConfig, _perplexity, draw_losses
from analysis.runner import run
from analysis.spec import IncompatibleSubject, UserError
from store import Store

V = 60


class Guesses(nn.Module):
    """A language model with the same logits everywhere."""

    def __init__(self, logits) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.as_tensor(logits, dtype=torch.float32))

    def forward(self, input_ids):
        return self.logits.expand(*input_ids.shape, -1)


def windows(n=12, length=9, per_document=3):
    ids = torch.randint(3, V, (n, length), generator=torch.Generator().manual_seed(0))
    return TextWindows.from_ids(ids, document=np.arange(n) // per_document)


def sealed(tmp_path, subject, **settings):
    store = Store(tmp_path)
    return store, run(TASK_LOSS, {"model": subject}, TaskLossConfig(**settings), store)


def summary(tmp_path, subject, **settings):
    store, info = sealed(tmp_path, subject, **settings)
    return store.read(info, "loss_summary").iloc[0]


def test_equal_logits_give_ln_v_and_perplexity_v(tmp_path):
    subject = subject_from(Guesses(torch.zeros(V)), data=windows())
    row = summary(tmp_path, subject, task="causal-lm")
    assert row["loss"] == pytest.approx(math.log(V), abs=1e-12) and row["perplexity"] == pytest.approx(V, rel=1e-12)
    assert row["loss_low"] == pytest.approx(row["loss_high"], abs=1e-9), "no document differs from any other"
    assert (row["n_documents"], row["n_examples"], row["n_tokens"]) == (4, 12, 96)


def test_the_tables_add_up(tmp_path):
    torch.manual_seed(0)
    subject = subject_from(Guesses(torch.randn(V)), data=windows())
    store, info = sealed(tmp_path, subject, task="causal-lm")
    examples, documents, row = (store.read(info, name) for name in ("example_losses", "losses", "loss_summary"))
    assert examples["loss_sum"].sum() == pytest.approx(documents["loss_sum"].sum())
    assert (documents["loss"] == documents["loss_sum"] / documents["n_tokens"]).all()
    assert row["loss"].iloc[0] == pytest.approx(documents["loss_sum"].sum() / documents["n_tokens"].sum())
    assert documents["name"].tolist() == [f"document {i}" for i in range(4)]
    expected = torch.nn.functional.cross_entropy(
        subject.model(subject_ids(subject)[:, :-1]).reshape(-1, V), subject_ids(subject)[:, 1:].reshape(-1)
    )
    assert row["loss"].iloc[0] == pytest.approx(float(expected.detach()), abs=1e-6)


def subject_ids(subject):
    return torch.from_numpy(subject.data.token_ids)


def test_an_enormous_loss_has_no_perplexity_and_says_why(tmp_path):
    logits = torch.zeros(V)
    logits[0] = 1e4
    row = summary(tmp_path, subject_from(Guesses(logits), data=windows()), task="causal-lm")
    assert row["loss"] == pytest.approx(1e4) and row["perplexity"] is None or math.isnan(row["perplexity"])
    assert "no perplexity" in row["note"]
    assert _perplexity(690.0) == pytest.approx(math.exp(690)) and _perplexity(691.0) is None


def test_an_infinite_loss_is_null_with_its_reason(tmp_path):
    logits = torch.zeros(V)
    logits[int(windows().token_ids[0, 1])] = -math.inf
    store, info = sealed(tmp_path, subject_from(Guesses(logits), data=windows()), task="causal-lm")
    row = store.read(info, "loss_summary").iloc[0]
    assert row[["loss", "perplexity", "loss_low"]].isna().all() and "infinite" in row["note"]
    documents = store.read(info, "losses")
    assert np.isnan(documents["loss"].iloc[0])
    spec = draw_losses(documents, store.provenance(info))
    assert "no finite loss" in spec.sentence


def test_one_document_has_a_mean_and_no_interval(tmp_path):
    row = summary(tmp_path, subject_from(Guesses(torch.zeros(V)), data=windows(per_document=99)), task="causal-lm")
    assert row[["loss_low", "loss_high", "accuracy_low"]].isna().all() and "one document" in row["note"]


def test_classification_has_an_accuracy_and_no_perplexity(tmp_path):
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.eye(2) * 100
    x = torch.eye(2).repeat(10, 1)
    labels = np.tile([0, 1], 10)
    labels[:5] = 1 - labels[:5]
    row = summary(tmp_path, subject_from(model, data=GivenBatches([x], labels=labels)))
    assert (row["task"], row["accuracy"], row["n_tokens"]) == ("classification", 0.75, 20)
    assert row["loss"] == pytest.approx(25.0) and np.isnan(row["perplexity"])


def test_a_model_trained_on_digits_does_well_on_them(tmp_path):
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    x, y = (torch.from_numpy(a) for a in (load_digits().data.astype(np.float32) / 16, load_digits().target))
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    subject = subject_from(model, data="digits", n_tokens=400 * 128)
    row = summary(tmp_path, subject, split="report")
    assert row["accuracy"] > 0.95 and row["loss"] < 0.3 and row["n_documents"] == 200


def test_units_and_batches_change_no_number(tmp_path, monkeypatch):
    torch.manual_seed(0)
    rows = []
    for i, (unit, batch) in enumerate([(8192, 1024), (18, 9), (9, 1)]):
        monkeypatch.setattr("analysis.quality.task_loss.UNIT_TOKENS", unit)
        subject = subject_from(Guesses(torch.linspace(-2, 2, V)), data=windows())
        store, info = sealed(tmp_path / str(i), subject, task="causal-lm", batch_tokens=batch)
        rows.append(store.read(info, "example_losses"))
    assert rows[0]["loss_sum"].tolist() == pytest.approx(rows[1]["loss_sum"].tolist(), abs=1e-9)
    assert rows[0].drop(columns="loss_sum").equals(rows[2].drop(columns="loss_sum"))


def test_a_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.quality.task_loss.UNIT_TOKENS", 18)
    subject = subject_from(Guesses(torch.linspace(-2, 2, V)), data=windows())
    config, calls = TaskLossConfig(task="causal-lm"), []

    def stop(progress):
        calls.append(progress.done)
        if progress.what == "scoring examples" and progress.done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(TASK_LOSS, {"model": subject}, config, Store(tmp_path / "a"), progress=stop)
    runs: list[int] = []
    hook = subject.model.register_forward_hook(lambda *_: runs.append(1))
    stopped = run(TASK_LOSS, {"model": subject}, config, Store(tmp_path / "a"))
    hook.remove()
    assert 0 < len(runs) < 6
    whole = run(TASK_LOSS, {"model": subject}, config, Store(tmp_path / "b"))
    for table in ("example_losses", "losses", "loss_summary"):
        assert Store(tmp_path / "a").read(stopped, table).equals(Store(tmp_path / "b").read(whole, table))


def test_a_model_without_right_answers_is_refused(tmp_path):
    subject = subject_from(nn.Linear(4, 3), data=[torch.randn(5, 4)])
    with pytest.raises(IncompatibleSubject, match="no language-model head; no classification: its data have no labels"):
        sealed(tmp_path, subject)
    subject = subject_from(Guesses(torch.zeros(V)), data=GivenBatches([torch.zeros(4, 2)], labels=[0] * 4))
    with pytest.raises(UserError, match="set task=classification"):
        sealed(tmp_path, subject, task="divergence")
    with pytest.raises(UserError, match="set task=causal-lm"):
        sealed(tmp_path, subject_from(Guesses(torch.zeros(V)), data=windows()))


def test_the_figure_says_the_mean_its_interval_and_n(tmp_path):
    subject = subject_from(Guesses(torch.linspace(-2, 2, V)), data=windows(40, 9, 2))
    store, info = sealed(tmp_path, subject, task="causal-lm")
    spec = draw_losses(store.read(info, "losses"), store.provenance(info))
    row = store.read(info, "loss_summary").iloc[0]
    assert spec.data["documents"].sum() == 20
    assert f"mean {row['loss']:.4g} nats per token, 95 % interval {row['loss_low']:.4g} to {row['loss_high']:.4g}" in spec.sentence
    assert "20 documents" in spec.sentence and "320 scored tokens" in spec.sentence


def test_the_card_says_how_often_the_model_is_right(tmp_path):
    logits = torch.zeros(V)
    logits[5] = 1
    data = TextWindows.from_ids([[1, 5, 5, 2]] * 4)
    row = summary(tmp_path, subject_from(Guesses(logits), data=data), task="causal-lm")
    (told,) = TASK_LOSS.headlines({"loss_summary": [row.to_dict()]})
    assert told.share == pytest.approx(2 / 3) and "12 tokens in 4 documents" in told.over


@pytest.mark.models
@pytest.mark.slow
def test_smollm2_reads_python_docs_as_a_language_model_should(tmp_path):
    subject = open_subject("smollm2", "python-docs", n_tokens=2048, window=256)
    store, info = sealed(tmp_path, subject, n_tokens=2048, window=256)
    row, examples = store.read(info, "loss_summary").iloc[0], store.read(info, "example_losses", order_by=["example"])
    assert row["task"] == "causal-lm" and 11 < row["perplexity"] < 20
    ids = torch.from_numpy(subject.data.token_ids[:2])
    with torch.no_grad():
        own = float(subject.model(input_ids=ids, labels=ids).loss)
    assert examples["loss_sum"][:2].sum() / examples["n_tokens"][:2].sum() == pytest.approx(own, abs=1e-4)
