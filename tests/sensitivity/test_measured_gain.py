"""measured_gain: what is timed is really smaller and answers alike; times are taken by turns; what cannot be cut says why."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.runner import run
from analysis.sensitivity.gain_tables import draw_gain
from analysis.sensitivity.gain_timing import Turns, turns
from analysis.sensitivity.measured_gain import MEASURED_GAIN, MeasuredGainConfig, one_example
from analysis.spec import UnknownName
from figures.paper import to_matplotlib
from store import Store
from tests import zoo
from tests.plane_run import learnt


def sealed(folder, subject=None, **settings):
    store = Store(folder)
    settings = {"levels": "0.5", "repeats": 2, "n_tokens": 16, **settings}
    return store, run(MEASURED_GAIN, {"model": subject or learnt()}, MeasuredGainConfig(**settings), store)


@pytest.fixture(scope="module")
def gains(tmp_path_factory):
    return sealed(tmp_path_factory.mktemp("gain"), levels="0.25, 0.5")


def test_every_way_is_timed_in_both_phases_with_its_cost_beside(gains):
    store, info = gains
    rows = store.read(info, "gains")
    assert set(rows["unit"]) == {"heads", "neurons", "blocks", "ranks", "dimensions"} and not info.rows["not_cut"]
    assert set(rows["phase"]) == {"prefill", "decode"} and (rows["context"] == 16).all()
    assert (rows["difference"] < 1e-3).all()
    smaller = rows[~((rows["unit"] == "ranks") & (rows["level"] == 0.25))]  # two factors of that rank would be larger than one matrix
    assert (smaller["parameters"] < 1).all() and (smaller.query("phase == 'prefill'")["counted"] < 1).all()
    assert ((rows["measured"] > 0) & (rows["low"] <= rows["measured"]) & (rows["measured"] <= rows["high"])).all()
    half = rows[(rows["level"] == 0.5) & (rows["phase"] == "prefill")].set_index("unit")
    assert half.loc["dimensions", "achieved"] == 0.5
    assert info.provenance["facts"]["machine"].endswith("float32")


def test_both_phases_are_drawn_and_say_what_is_not_claimed(gains):
    store, info = gains
    for phase in ("prefill", "decode"):
        spec = draw_gain(phase, store.read(info, "gains"), info.provenance)
        assert to_matplotlib(spec).axes and "Nothing is claimed of zeros that stay" in " ".join(spec.notes)


def test_what_cannot_be_cut_is_listed_with_its_reason_and_the_rest_is_timed(tmp_path):
    from analysis.models import TextWindows, subject_from

    ids = torch.randint(3, 57, (8, 16), generator=torch.Generator().manual_seed(1))
    subject = subject_from(zoo.gpt2()[0], name="gpt2", data=TextWindows.from_ids(ids, document=np.arange(8)))
    store, info = sealed(tmp_path, subject)
    assert set(store.read(info, "gains")["unit"]) == {"blocks"}
    reasons = store.read(info, "not_cut").set_index("unit")["reason"]
    assert set(reasons.index) == {"heads", "neurons", "ranks", "dimensions"} and "Conv1D" in reasons["ranks"]


def test_a_copy_that_answers_otherwise_is_refused_and_not_timed(tmp_path, monkeypatch):
    from analysis.interventions.structure import factored

    made = factored.two

    def wrong(layer, vectors):
        found = made(layer, vectors)
        found[0].weight.data.mul_(1.2)
        return found

    monkeypatch.setattr(factored, "two", wrong)
    store, info = sealed(tmp_path, units="ranks", levels="0.8")
    assert not info.rows["gains"]
    assert "must answer as the ablated one does" in store.read(info, "not_cut")["reason"].iloc[0]


def test_models_take_turns_and_the_first_to_run_changes():
    order, now = [], [0.0]

    def timed(name, seconds):
        def once():
            order.append(name)
            now[0] += seconds

        return once

    found = turns(timed("d", 4.0), timed("s", 1.0), 3, per_turn=2, clock=lambda: now[0])
    assert found.dense.tolist() == [2.0] * 3 and found.smaller.tolist() == [0.5] * 3, "the first turn warms up and does not count"
    assert "".join(order) == "dssddssd"
    assert found.ratio == 0.25 and found.interval(0) == (0.25, 0.25)


def test_a_burst_of_other_work_does_not_move_the_median_and_one_turn_has_no_interval():
    dense, smaller = np.ones(9), np.full(9, 0.5)
    dense[4], smaller[4] = 7.0, 90.0
    assert Turns(dense, smaller).ratio == 0.5
    assert Turns(np.ones(1), np.ones(1)).interval(0) is None


def test_the_example_has_the_length_asked_for_and_no_padding():
    subject = learnt()
    batch = one_example(subject, 23)
    assert batch["input_ids"].shape == (1, 23) and batch.get("attention_mask", torch.ones(1)).all()


def test_an_unknown_unit_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(UnknownName, match="heads, neurons, blocks, ranks, dimensions, got 'wings'"):
        sealed(tmp_path, units="wings")
