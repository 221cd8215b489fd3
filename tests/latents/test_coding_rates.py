"""Coding rates of a model's layers: what is stored is what the formula gives on what flows there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.latents.coding_rates import CODING_RATES, HEADS, STREAM, CodingRatesConfig
from analysis.models import TextWindows, subject_from
from analysis.runner import run
from analysis.stats.coding_rate import coding_rate, unit_tokens
from store import Store
from tests import zoo


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    ids = torch.randint(3, 60, (12, 9), generator=torch.Generator().manual_seed(0)).numpy()
    subject = subject_from(zoo.llama()[0], data=TextWindows.from_ids(ids, document=np.arange(12) // 2))
    store = Store(tmp_path_factory.mktemp("rates"))
    return subject, store, run(CODING_RATES, {"model": subject}, CodingRatesConfig(), store)


def test_the_rate_of_a_layer_is_the_mean_over_windows(made):
    subject, store, info = made
    with torch.no_grad():
        hidden = subject.model.model.layers[0](
            subject.model.model.embed_tokens(torch.from_numpy(subject.data.token_ids)),
            position_embeddings=subject.model.model.rotary_emb(torch.zeros(1), torch.arange(9)[None]),
        )
    hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    wanted = np.mean([coding_rate(unit_tokens(window[1:])) for window in hidden])
    rows = store.read(info, "coding_rates").set_index("hook_name")
    assert rows.loc["blocks.0.hook_resid_post", "rate"] == pytest.approx(wanted, rel=1e-4)
    assert rows.loc["blocks.0.hook_resid_post", "n_tokens"] == 12 * 8


def test_rates_of_heads_are_summed_and_none_is_above_what_is_possible(made):
    _, store, info = made
    rows = store.read(info, "coding_rates")
    assert set(rows["of"]) == {STREAM, HEADS}
    heads = rows[rows["of"] == HEADS]
    assert heads["heads"].tolist() == [2, 2] and heads["width"].tolist() == [4, 4]
    assert (rows["rate"] <= rows["most"] + 1e-9).all() and (rows["rate"] > 0).all()
    assert (rows["low"] <= rows["rate"]).all() and (rows["rate"] <= rows["high"]).all()


def test_its_figure_draws(made):
    from figures.screen import to_plotly

    _, store, info = made
    spec = CODING_RATES.figures[0].draw(store.read(info, "coding_rates"), store.provenance(info))
    assert len(to_plotly(spec).data) >= 2
