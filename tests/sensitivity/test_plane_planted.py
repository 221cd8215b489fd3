"""One model with everything planted in it, one run of `sparsity_plane`: each truth is found by the intervention made for it.

Half of the neurons of two layers are dead, two heads are useless, one layer adds nothing, and every matrix is exactly of half its rank.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.interventions.scope import weight_scope
from analysis.interventions.structure.rank import directions, truncated
from analysis.models import TextWindows, subject_from
from analysis.runner import run
from analysis.sensitivity.plane import SPARSITY_PLANE, SparsityPlaneConfig
from store import Store

LAYERS, HEADS, NEURONS, WIDTH, V, N = 3, 4, 24, 16, 60, 120
USELESS, IDLE = ((0, 1), (2, 3)), 1
FREE = {
    "dead-neurons": (12 + 12 + NEURONS) / 72,  # every second one, and those of the idle layer, which nothing reads
    "ffn-neurons": (12 + 12 + NEURONS) / 72,
    "heads": (2 + HEADS) / 12,
    "blocks": 1 / 3,
    "attention-sublayers": 1 / 3,
    "ffn-sublayers": 1 / 3,
    "matrix-rank": 0.5,
}
"""By intervention: the share that may go for nothing."""
ONE_MORE = {
    "ffn-neurons": 49 / 72,
    "heads": 7 / 12,
    "blocks": 2 / 3,
    "attention-sublayers": 2 / 3,
    "ffn-sublayers": 2 / 3,
    "matrix-rank": 0.63,
}
BLIND = {"ffn-prefix": FREE["ffn-neurons"], "early-exit": FREE["blocks"]}
"""At the same share, but not looking for what was planted."""


def planted():
    """A subject: documents of one window that the model wrote itself."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V, hidden_size=WIDTH, intermediate_size=NEURONS, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, tie_word_embeddings=False, hidden_act="relu",
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for member in weight_scope(model).members:
            matrix = member.parameter
            matrix.copy_(truncated(matrix, directions(matrix)[1], min(matrix.shape) // 2))
        for layer in model.model.layers:
            layer.mlp.gate_proj.weight[::2] = 0
        for layer, head in USELESS:
            model.model.layers[layer].self_attn.o_proj.weight[:, 4 * head : 4 * head + 4] = 0
        model.model.layers[IDLE].self_attn.o_proj.weight.zero_()
        model.model.layers[IDLE].mlp.down_proj.weight.zero_()
    return subject_from(model, name="planted", data=TextWindows.from_ids(own_text(model), document=np.arange(N)))


@torch.no_grad()
def own_text(model):
    """What the model itself would write: nothing that is taken from it can do better on average."""
    made = torch.Generator().manual_seed(1)
    ids = torch.randint(3, V, (N, 1), generator=made)
    for _ in range(15):
        ids = torch.cat([ids, torch.multinomial(model(ids).logits[:, -1].softmax(-1), 1, generator=made)], 1)
    return ids


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Increase of the loss by intervention and level, and the rows of the points."""
    terms = [f"{name}@{share + 1e-9:.9f}" for part in (FREE, ONE_MORE, BLIND) for name, share in part.items() if name != "dead-neurons"]
    store = Store(tmp_path_factory.mktemp("planted"))
    config = SparsityPlaneConfig(interventions=", ".join(["dead-neurons", *terms]))
    info = run(SPARSITY_PLANE, {"model": planted()}, config, store)
    return store.read(info, "curve_points").query("metric == 'loss' and level > 0")


@pytest.mark.parametrize("name", FREE)
def test_what_was_planted_is_found_and_goes_for_nothing(found, name):
    rows = found[found["method"] == name].sort_values("level")
    free = rows.iloc[0]
    assert free["achieved"] == pytest.approx(FREE[name], abs=1e-6)
    assert free["delta"] == pytest.approx(0.0, abs=2e-6 if name == "matrix-rank" else 0.0)


@pytest.mark.parametrize("name", ONE_MORE)
def test_one_more_costs_something(found, name):
    rows = found[found["method"] == name].sort_values("level")
    assert rows.iloc[1]["delta"] > 1e-3 and rows.iloc[1]["achieved"] > rows.iloc[0]["achieved"]


@pytest.mark.parametrize("name", BLIND)
def test_as_much_chosen_blindly_does_not_go_for_nothing(found, name):
    assert found[found["method"] == name].iloc[0]["delta"] > 1e-2
