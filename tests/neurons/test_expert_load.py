"""Which tokens were sent to which expert, against the routers' own choices."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.models import TextWindows, subject_from
from analysis.neurons.expert_load import ExpertLoad, group_rows
from analysis.neurons.figures import draw_experts
from analysis.neurons.neuron_activity import NEURON_ACTIVITY, NeuronActivityConfig
from analysis.runner import run
from analysis.stats.load import evenness, imbalance
from figures.spec import NothingToDraw
from store import Store
from tests import zoo


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


def text(n_windows=6, window=16, documents=3):
    ids = np.random.default_rng(0).integers(3, 60, (n_windows, window))
    return TextWindows.from_ids(ids, document=np.arange(n_windows) * documents // n_windows)


def sealed(store, model, data, **settings):
    return run(NEURON_ACTIVITY, {"model": subject_from(model, data=data)}, NeuronActivityConfig(**settings), store)


def chosen_by(model, data):
    """Expert numbers [tokens, k] that each layer's router chose."""
    found = []
    hooks = [layer.mlp.gate.register_forward_hook(lambda m, a, out: found.append(out[2])) for layer in model.model.layers]
    with torch.no_grad():
        model(torch.from_numpy(data.token_ids))
    for hook in hooks:
        hook.remove()
    return [chosen.numpy() for chosen in found]


@pytest.mark.parametrize("make", [zoo.mixtral, zoo.qwen2_moe], ids=["mixtral", "qwen2 moe"])
def test_loads_are_what_the_routers_chose(store, make):
    model, _ = make()
    data = text()
    info = sealed(store, model, data)
    rows = store.read(info, "experts", order_by=["layer", "expert"])
    groups = store.read(info, "expert_layers", order_by=["layer"])
    document = np.repeat(data.document, data.token_ids.shape[1])
    for layer, chosen in enumerate(chosen_by(model, data)):
        counts = np.bincount(chosen.ravel(), minlength=4)
        mine = rows[rows["layer"] == layer]
        assert mine["n_tokens"].tolist() == counts.tolist()
        np.testing.assert_allclose(mine["share"], counts / counts.sum())
        np.testing.assert_allclose(mine["load"], counts / counts.mean())
        assert mine["documents_reached"].tolist() == [len(set(document[(chosen == e).any(1)])) for e in range(4)]
        group = groups.iloc[layer]
        assert (group["n_tokens"], group["n_pairs"], group["n_unsent"]) == (96, 192, 0)
        assert group["experts_per_token"] == 2
        assert group["largest_load"] == pytest.approx(counts.max() / counts.mean())
        assert group["imbalance"] == pytest.approx(imbalance(counts))
        assert group["evenness"] == pytest.approx(evenness(counts))
    spread = store.read(info, "experts_per_token")
    assert spread[["n_experts", "n_tokens", "share"]].to_numpy().tolist() == [[2, 96, 1.0]] * 2


def test_an_expert_without_tokens_has_a_row_that_says_so(store):
    model, _ = zoo.listed_experts()
    info = sealed(store, model, text())
    idle = store.read(info, "experts", order_by=["layer", "expert"]).query("expert == 2")
    assert idle["n_tokens"].tolist() == [0, 0]
    assert idle["share"].tolist() == idle["load"].tolist() == [0.0, 0.0]
    assert idle["documents_reached"].tolist() == [0, 0]
    assert store.read(info, "expert_layers")["n_idle"].tolist() == [1, 1]
    assert set(store.provenance(info)["facts"]["sites_without_rows"]) == {f"blocks.{n}.experts.2.w2.hook_in" for n in (0, 1)}


def test_padding_is_sent_nowhere(store):
    model, batch = zoo.mixtral()
    info = sealed(store, model, [batch])
    assert store.read(info, "expert_layers")[["n_tokens", "n_pairs"]].to_numpy().tolist() == [[12, 24]] * 2


def test_units_do_not_change_the_loads(store, monkeypatch):
    model, _ = zoo.mixtral()
    one = sealed(store, model, text(), batch_tokens=16)
    monkeypatch.setattr("analysis.neurons.neuron_activity.UNIT_TOKENS", 32)
    many = run(
        NEURON_ACTIVITY, {"model": subject_from(model, data=text())}, NeuronActivityConfig(batch_tokens=16), store, force=True
    )  # fmt: skip
    for table in ("experts", "expert_layers", "experts_per_token"):
        keys = list(NEURON_ACTIVITY.table(table).key)
        assert store.read(one, table, order_by=keys).equals(store.read(many, table, order_by=keys)), table


def site(expert):
    return SimpleNamespace(member=expert, layer=0, hook_name=f"expert {expert}")


def test_tokens_that_no_expert_took_are_counted():
    load = ExpertLoad([site(0), site(1)], n_documents=2)
    load.see(0, np.array([0, 3]), np.array([0, 1]))
    load.see(1, np.array([3]), np.array([1]))
    load.end(5)
    assert load.per_token.tolist() == [3, 1, 1]
    assert load.reached.sum(1).tolist() == [2, 1]
    row = {name: value for name, (value,) in group_rows("group", load).items()}
    assert (row["n_unsent"], row["n_pairs"], row["experts_per_token"]) == (3, 3, 3 / 5)


def test_a_group_that_no_token_reached_has_no_shares():
    load = ExpertLoad([site(0), site(1)], n_documents=1)
    load.end(4)
    row = {name: value for name, (value,) in group_rows("group", load).items()}
    assert (row["n_idle"], row["n_unsent"], row["imbalance"], row["evenness"], row["largest_load"]) == (2, 4, None, None, None)


def test_the_figure_shows_every_expert_and_says_how_many_are_idle(store):
    from figures.paper import to_matplotlib
    from figures.screen import to_plotly

    model, _ = zoo.listed_experts()
    info = sealed(store, model, text())
    spec = draw_experts(store.read(info, "experts"), store.provenance(info))
    assert len(spec.data) == 6
    assert "6 experts in 2 layers" in spec.sentence
    assert "2 of the experts got none of the tokens" in spec.sentence
    assert to_plotly(spec).data
    assert to_matplotlib(spec).axes


def test_a_model_without_experts_has_nothing_to_draw_and_says_why(store):
    model, _ = zoo.llama()
    info = sealed(store, model, text())
    with pytest.raises(NothingToDraw, match="model has no experts: every token goes through every neuron"):
        draw_experts(store.read(info, "experts"), store.provenance(info))
