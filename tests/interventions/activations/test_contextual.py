"""Contextual sparsity, Griffin, CETT, dead neurons: METHODS B10, B3, B2."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from analysis.capture import Frame
from analysis.interventions.activations.base import Setting
from analysis.interventions.activations.cett import AddsLittle, Cett, cett, course
from analysis.interventions.activations.contextual import ContextualOracle, ContextualPrevious, Previous, recall
from analysis.interventions.activations.dead import DeadNeurons, dead_neurons
from analysis.interventions.activations.griffin import Griffin, OfThePrompt, prompt_scores
from analysis.interventions.activations.predicted import ContextualPredicted, Predictor
from analysis.interventions.activations.threshold import Threshold
from tests import zoo
from tests.interventions.activations.places import answer, calibrated, plain, seen, site_of, subject_of


def test_griffin_scores_of_the_worked_example():
    found = prompt_scores(torch.tensor([[3.0, 4.0], [0.0, 5.0]]), torch.tensor([0, 0]), 1)
    torch.testing.assert_close(found, torch.tensor([[0.6, 1.280625]]), atol=1e-6, rtol=0)


SITE = SimpleNamespace(name="a", stream="input", width=2)


def test_griffin_keeps_what_the_prompt_used_and_never_looks_behind_it():
    frame = Frame(torch.ones(2, 4, dtype=torch.bool))
    values = torch.tensor([[3.0, 4.0], [0.0, 5.0], [9.0, 1.0], [9.0, 1.0], [2.0, 1.0], [2.0, 0.0], [1.0, 9.0], [1.0, 9.0]])
    changed = OfThePrompt(0.5, 0.5).change(seen(values, site=SITE, frame=frame))
    assert torch.equal(changed.values[:2], values[:2]) and torch.equal(changed.values[4:6], values[4:6]), "prompts run in full"
    assert changed.values[2:4].tolist() == [[0, 1], [0, 1]] and changed.values[6:].tolist() == [[1, 0], [1, 0]]
    assert changed.kept.shape == (4, 2) and changed.kept.sum() == 4


def test_griffin_skips_padding_and_follows_rows_out_of_order():
    frame = Frame(torch.tensor([[True, True, True, False], [True, True, True, True]]))
    ordered = torch.tensor([[3.0, 4.0], [1.0, 5.0], [9.0, 1.0], [2.0, 1.0], [2.0, 0.0], [1.0, 9.0], [1.0, 9.0]])
    rows, mixed = torch.tensor([0, 1, 2, 4, 5, 6, 7]), torch.tensor([5, 2, 0, 6, 3, 1, 4])
    once = OfThePrompt(0.5, 0.5).change(seen(ordered, site=SITE, frame=frame, rows=rows)).values
    again = OfThePrompt(0.5, 0.5).change(seen(ordered[mixed], site=SITE, frame=frame, rows=rows[mixed])).values
    assert torch.equal(once[mixed], again)
    assert once[1:3].tolist() == [[1, 5], [0, 1]], "the prompt of three tokens is two of them"


def test_recall_of_the_perfect_predictor_is_1_and_of_chance_k_of_f():
    g = torch.Generator().manual_seed(0)
    true, chance = (torch.rand(4000, 40, generator=g).argsort(1) < 10 for _ in range(2))
    assert recall(true, true).eq(1).all()
    assert recall(chance, true).mean().item() == pytest.approx(0.25, abs=0.01)


def test_the_token_before_names_the_neurons():
    frame = Frame(torch.ones(1, 3, dtype=torch.bool))
    rule = Previous({"a": torch.tensor([1.0, 10.0])}, 0.5)
    changed = rule.change(seen([[5.0, 1.0], [7.0, 0.1], [1.0, 2.0]], site=SITE, frame=frame))
    # column norms: 5 < 10, so the first token needs neuron 1; the second 7 > 1, neuron 0.
    assert changed.values.tolist() == [[5.0, 1.0], [0.0, pytest.approx(0.1)], [1.0, 0.0]]
    assert rule.facts()["recall"] == 0.0
    assert changed.kept.tolist() == [[False, True], [True, False]], "the first token is not counted"


def test_tokens_that_repeat_are_recalled_in_full():
    subject = subject_of(zoo.opt())
    subject.batch["input_ids"][:] = 7
    subject.batch["attention_mask"][:] = 1
    for position in subject.model.model.decoder.embed_positions.parameters():
        position.data.zero_()
    with ContextualPrevious().on(subject) as held:
        held.at(0.5)
        answer(subject)
        cost = held.cost(0.5)
        assert cost.facts["recall"] > 0.99
        assert {name.rpartition(".")[0][-3:] for name in cost.shares.products} == {"fc1", "fc2"}


def test_a_pass_saves_half_of_what_a_decoded_token_saves_behind_a_prompt():
    subject = subject_of(zoo.llama())
    subject.batch["input_ids"], subject.batch["attention_mask"] = torch.arange(16).view(2, 8), torch.ones(2, 8, dtype=torch.long)
    with Griffin().on(subject) as held:
        held.at(0.5)
        answer(subject)
        shares = held.cost(0.5).shares
    assert held.measured_share() == 0.5
    assert set(shares.touched.values()) == {0.5} and set(shares.products.values()) == {0.75}
    assert len(shares.products) == 6, "gate, up and down of two layers"


# ---------------------------------------------------------------------------------------------------------------------


def test_cett_of_the_worked_example():
    a, matrix = torch.tensor([[3.0, 4.0, 12.0]]), torch.eye(3)
    assert cett(a, matrix, 3.0, a) == pytest.approx(3 / 13, abs=1e-6)
    assert cett(a, matrix, 4.0, a) == pytest.approx(5 / 13, abs=1e-6)
    assert cett(a, matrix, 2.9, a) == 0.0


def test_cett_at_0_is_0_and_removes_what_relu_did():
    a = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)).relu()
    found = course(a, torch.randn(8, 32, generator=torch.Generator().manual_seed(1)), None)
    assert found.theta[0] == 0 and found.cett[0] == 0
    assert found.share[0] == pytest.approx((a == 0).float().mean().item())
    assert found.cett[-1] == pytest.approx(1.0) and found.share[-1] == 1.0


def _uneven():
    """Two layers, of which the first may lose much."""
    g = torch.Generator().manual_seed(3)
    first = plain(torch.randn(64, 8, generator=g), torch.randn(8, 64, generator=g) * torch.logspace(0, -3, 64))
    second = plain(torch.randn(64, 8, generator=g), torch.randn(8, 64, generator=g))
    return subject_of((nn.Sequential(*first, *second), (torch.randn(300, 8, generator=g),)))


def test_all_layers_make_the_same_error():
    subject = _uneven()
    with Cett().on(subject, calibrated(subject.batch)) as held:
        applied = held.at(0.7)
        answer(subject)
        kept = held.cost(0.7).facts["kept_by_layer"]
        assert held.measured_share() == pytest.approx(0.7, abs=0.04)
        assert list(kept.values())[0] < list(kept.values())[-1] - 0.1
        assert applied.native_unit == "CETT" and 0 < applied.native_value < 1


def test_cett_errs_less_than_thresholds_on_activations_alone():
    subject = _uneven()
    dense, error = answer(subject), {}
    for method in (Threshold(), Cett()):
        with method.on(subject, calibrated(subject.batch)) as held:
            held.at(0.7)
            error[method.slug] = (answer(subject) - dense).norm().item()
    assert error["cett"] < 0.8 * error["ffn-threshold"]


def test_what_lies_on_the_threshold_goes():
    rule = AddsLittle({"a": torch.tensor([2.0, 1.0, 2.0])}, {"a": 2.0}, 0.1)
    assert rule.change(seen([[1.0, 2.0, 1.5]])).kept.tolist() == [[False, False, True]]


def test_the_oracle_errs_less_than_top_k_of_the_activations():
    from analysis.interventions.activations.topk import TopK

    subject = _uneven()
    dense, error = answer(subject), {}
    for method in (TopK(), ContextualOracle()):
        with method.on(subject) as held:
            held.at(0.8)
            error[method.slug] = (answer(subject) - dense).norm().item()
    assert error["contextual-oracle"] < error["ffn-topk"]


# ---------------------------------------------------------------------------------------------------------------------


def _half_dead():
    g = torch.Generator().manual_seed(5)
    model = plain(torch.randn(20, 6, generator=g), torch.randn(4, 20, generator=g))
    model[0].bias = nn.Parameter(torch.where(torch.arange(20) % 2 == 0, -1e3, 0.0))
    return subject_of((model, (torch.randn(200, 6, generator=g),)))


def test_exactly_the_planted_half_is_found_and_its_removal_is_free():
    subject = _half_dead()
    site = site_of(subject.model, subject.batch)
    found = dead_neurons(Setting(subject.model, [site], calibrated(subject.batch), subject.batch))[site.name]
    assert found.tolist() == [True, False] * 10
    before = answer(subject)
    with DeadNeurons().on(subject, calibrated(subject.batch)) as held:
        assert held.levels == (0.0, 1.0) and held.at(1.0).achieved == 0.5
        assert torch.equal(answer(subject), before), "the change is 0, not small"
        cost = held.cost(1.0)
        assert held.measured_share() == 0.5 and cost.shares.static
        assert cost.shares.products == {"0.weight": 0.5, "2.weight": 0.5}
        assert held.facts["n_tokens"] == 200 and list(held.facts["dead"].values()) == [10]


def test_a_neuron_without_a_column_is_dead_and_a_fault_shows_on_other_data():
    subject = _half_dead()
    subject.model[2].weight.data[:, 1] = 0
    with DeadNeurons().on(subject, calibrated(subject.batch)) as held:
        held.at(1.0)
        assert held.at(1.0).native_value == 11
        subject.batch = (1e4 * subject.batch[0],)
        changed = answer(subject)
    assert not torch.equal(answer(subject), changed), "neurons that wake on other data are missed"


def test_without_exact_zeros_no_neuron_is_dead():
    subject = subject_of(zoo.llama())
    with DeadNeurons().on(subject, calibrated(subject.batch)) as held:
        assert held.at(1.0).achieved == 0.0


# ---------------------------------------------------------------------------------------------------------------------


def _low_rank():
    """An FFN whose activations hang on four directions of what it reads."""
    g = torch.Generator().manual_seed(8)
    first = torch.randn(64, 4, generator=g) @ torch.randn(4, 16, generator=g)
    return subject_of((plain(first, torch.randn(8, 64, generator=g)), (torch.randn(600, 16, generator=g),)))


def test_a_predictor_of_enough_rank_recalls_what_a_poor_one_misses():
    subject, found = _low_rank(), {}
    for rank in (1, 8):
        with ContextualPredicted(rank=rank).on(subject, calibrated(subject.batch)) as held:
            held.at(0.75)
            answer(subject)
            found[rank] = held.cost(0.75).facts["recall"]
    assert found[8] > 0.75 > found[1] > 0.25, "by chance 1 of 4"


def test_the_predictor_is_paid_for_and_spares_the_whole_ffn():
    subject = _low_rank()
    with ContextualPredicted(rank=8).on(subject, calibrated(subject.batch)) as held:
        held.at(0.75)
        answer(subject)
        shares = held.cost(0.75).shares
    assert held.measured_share() == 0.75
    assert shares.products == {"0.weight": 0.25, "2.weight": 0.25}
    assert shares.overhead_flops == 2 * 8 * (16 + 64) + 3 * 64 and shares.overhead_bytes == 4 * 8 * (16 + 64)


def test_a_predictor_of_full_rank_is_the_ridge_regression():
    g = torch.Generator().manual_seed(9)
    x, y = torch.randn(50, 6, generator=g), torch.randn(50, 5, generator=g)
    found = Predictor.fit(x, y, 5)(x)
    z = (x - x.mean(0)) / x.std(0, unbiased=False)
    ridge = 0.1 * (z @ z.T).diagonal().mean()
    expected = y.mean(0) + z @ torch.linalg.solve(z.T @ z + ridge * torch.eye(6), z.T @ (y - y.mean(0)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
