"""matrix_sensitivity of sublayers and blocks: what is removed, planted worth, and ablations that help."""

import numpy as np
import pytest
import torch

from analysis.interventions.scope import weight_scope
from analysis.models import TextWindows, subject_from
from analysis.sensitivity.matrix_figures import draw_parts
from analysis.sensitivity.wholes import blocks, sublayers
from tests import zoo
from tests.interventions.structure.planted import llama, planted
from tests.sensitivity.test_matrix_sensitivity import sealed
from tests.tasks.test_tasks import FakeTokenizer


def _subject(model, n=32):
    ids = torch.randint(3, 60, (n, 9), generator=torch.Generator().manual_seed(1))
    return subject_from(model, data=TextWindows.from_ids(ids, document=np.arange(n) // 2), tokenizer=FakeTokenizer())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A third block that adds nothing."""
    store, info = sealed(
        tmp_path_factory.mktemp("wholes"), _subject(planted()), units="sublayers, blocks", group_levels="0.5, 1", proxies="none", refine=0
    )
    return store, info


def test_a_block_that_adds_nothing_costs_nothing_and_its_sublayers_neither(found):
    store, info = found
    ranking = store.read(info, "matrix_ranking").set_index(["kind", "tensor"])
    assert set(ranking.index) == {("block", f"model.layers.{i}") for i in range(3)} | {
        ("sublayer", f"model.layers.{i}.{part}") for i in range(3) for part in ("self_attn", "mlp")
    }
    idle = ranking[ranking["layer"] == 2]
    assert len(idle) == 3 and (idle["area"] == 0).all() and idle["lowers"].isna().all()
    assert (ranking[ranking["layer"] < 2]["area"] != 0).all()
    assert (ranking.loc["block", "n_weights"] == 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24).all()


def _harmful():
    """Two blocks; the head reads one dimension, which the second block alone writes, and what it says there is noise."""
    model = llama()
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 15] = 0
        for weight in (model.model.layers[0].self_attn.o_proj.weight, model.model.layers[0].mlp.down_proj.weight):
            weight[15] = 0
        model.lm_head.weight[:, :15] = 0
        model.lm_head.weight[:, 15].mul_(8)
    return model


def test_what_lowers_the_loss_is_named_with_the_level(tmp_path):
    store, info = sealed(tmp_path, _subject(_harmful()), units="blocks", group_levels="0.5, 1", proxies="none", refine=0, batch_tokens=4096)
    ranking, points = (store.read(info, name).set_index("tensor") for name in ("matrix_ranking", "matrix_points"))
    harmful, other = ranking.loc["model.layers.1"], ranking.loc["model.layers.0"]
    own = points.loc["model.layers.1"].set_index("level")
    assert harmful["lowers"] == own["delta"].min() < -0.1 and harmful["lowers_at"] == own["delta"].idxmin() == 1.0
    assert own.loc[1.0, "value"] == pytest.approx(np.log(60), rel=1e-5), "without it nothing is said"
    assert (points.loc["model.layers.0"]["high"] < 0).any() == (not np.isnan(other["lowers"]))


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
def test_at_level_1_a_block_gives_back_what_it_was_given_biases_included(name):
    model, batch = getattr(zoo, name)()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    every = list(blocks(model, batch, weight_scope(model)))
    seen = {}
    model.get_submodule(every[1].tensor).register_forward_hook(
        lambda _, args, kwargs, out: seen.update(given=args[0], made=out[0] if isinstance(out, tuple) else out), with_kwargs=True
    )
    change, n_zero = every[1].at(1.0)
    assert n_zero == every[1].n
    with torch.no_grad():
        for parameter, values in change.items():
            model.get_parameter(parameter).copy_(values)
        model(**batch)
    assert torch.equal(seen["given"], seen["made"])


def test_below_level_1_the_smallest_magnitudes_of_all_matrices_go():
    model, batch = zoo.llama()
    one = next(one for one in sublayers(model, batch, weight_scope(model)) if one.tensor.endswith("mlp"))
    change, n_zero = one.at(0.25)
    dense = {name: model.get_parameter(name).detach() for name in change}
    assert len(change) == 3 and n_zero == one.n // 4
    kept = torch.cat([values[values != 0].abs() for values in change.values()])
    gone = torch.cat([dense[name][values == 0].abs() for name, values in change.items()])
    assert gone.max() <= kept.min()


def test_sublayers_are_drawn_by_name(found):
    store, info = found
    rows = store.read(info, "matrix_points")
    spec = draw_parts(rows[rows["kind"] == "sublayer"], store.provenance(info))
    assert set(spec.data["part"]) == {"self_attn", "mlp"} and not spec.data.duplicated(["place", "part"]).any()
