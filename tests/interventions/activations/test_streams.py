"""Delta, hidden dimensions, convolution channels: METHODS B9, B8, B11."""

import math
from types import SimpleNamespace

import pytest
import torch

from analysis.interventions.activations.channels import ConvChannels, kept_channels, mass_for, masses
from analysis.interventions.activations.delta import Delta, passed_on
from analysis.interventions.activations.hidden import HiddenDimensions, read_dimensions
from tests import zoo
from tests.interventions.activations.places import answer, calibrated, subject_of


def test_the_reference_moves_only_on_transmission():
    x = torch.tensor([0, 0.3, 0.6, 1.0, 0.9])[None, :, None]
    read, sent = passed_on(x, torch.tensor([0.5]))
    assert sent.flatten().tolist() == [True, False, True, False, False]
    torch.testing.assert_close(read.flatten(), torch.tensor([0, 0, 0.6, 0.6, 0.6]))
    assert 1 - sent[:, 1:].float().mean() == 0.75


def test_the_error_never_exceeds_the_threshold():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 200, 8, generator=g).cumsum(1) * 0.1
    read, _ = passed_on(x, torch.full((8,), 0.4))
    assert (x - read).abs().max() <= 0.4
    matrix = torch.randn(5, 8, generator=g)
    errors = ((x - read) @ matrix.T).norm(dim=-1)
    assert errors.max() <= torch.linalg.matrix_norm(matrix, 2) * 0.4 * math.sqrt(8)


def _still():
    """All tokens are the same, at the same position."""
    subject = subject_of(zoo.opt())
    subject.batch["input_ids"][:] = 7
    subject.batch["attention_mask"][:] = 1
    for table in subject.model.model.decoder.embed_positions.parameters():
        table.data.zero_()
    return subject


def test_what_stands_still_is_passed_on_once_for_free():
    subject = _still()
    before = answer(subject)
    other = subject_of(zoo.opt())
    with Delta().on(subject, calibrated(other.batch)) as held:
        held.at(0.01)
        torch.testing.assert_close(answer(subject), before, atol=1e-4, rtol=1e-4)
        assert held.measured_share() > 0.95


def test_delta_counts_no_first_token_but_pays_for_it():
    subject = subject_of(zoo.llama())
    with Delta().on(subject, calibrated(subject.batch)) as held:
        held.at(1.0)
        answer(subject)
        shares = held.cost(1.0).shares
    assert held.measured_share() == 1.0
    assert list(shares.products.values()) == pytest.approx([2 / 12] * 14), "two sequences of seven and five tokens"
    assert set(shares.touched.values()) == {0.0}


def test_sequences_that_are_padded_on_the_left_are_read_the_same():
    subject = subject_of(zoo.opt())
    ids = subject.batch["input_ids"][:1]
    batches = [
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        {"input_ids": torch.cat([ids[:, :3], ids], 1), "attention_mask": torch.tensor([[0] * 3 + [1] * 7])},
    ]
    shares = []
    with Delta().on(subject, calibrated(subject.batch)) as held:
        for batch in batches:
            held.at(0.5)
            answer(SimpleNamespace(model=subject.model, batch=batch))
            shares.append(held.measured_share())
    assert shares[0] == pytest.approx(shares[1], abs=0.02)


# ---------------------------------------------------------------------------------------------------------------------


def test_shared_and_specialised_dimensions_of_the_worked_example():
    h = torch.tensor([[5, 0.1, 0.1, 4], [5, 0.1, 3, 0.1], [5, 4, 0.1, 0.1]])
    keep = read_dimensions(h, h.abs().mean(0), 2)
    assert [row.nonzero().flatten().tolist() for row in keep] == [[0, 3], [0, 2], [0, 1]]
    torch.testing.assert_close(keep.float().mean(0), torch.tensor([1, 1 / 3, 1 / 3, 1 / 3]))
    sets = [set(row.nonzero().flatten().tolist()) for row in keep]
    assert [len(a & b) / len(a | b) for a, b in zip(sets, sets[1:])] == [1 / 3, 1 / 3]


def test_three_quarters_of_what_is_read_is_the_same_for_all_tokens():
    x = torch.randn(500, 32, generator=torch.Generator().manual_seed(0))
    keep = read_dimensions(x, x.abs().mean(0), 16)
    assert set(keep.sum(1).tolist()) == {16}
    assert keep.all(0).sum() == 12


def test_only_matrices_that_read_the_stream_are_meant():
    subject = subject_of(zoo.llama())
    with HiddenDimensions().on(subject, calibrated(subject.batch)) as held:
        held.at(0.5)
        answer(subject)
        names = {name.split(".")[-2] for name in held.cost(0.5).shares.products}
    assert names == {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
    assert held.measured_share() == 0.5


# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("r", "kept"), [(0.4, []), (0.7, [0]), (0.8, [0, 1]), (0.95, [0, 1]), (1.0, [0, 1, 2]), (0.0, []), (-1.0, [0, 1, 2])]
)
def test_channels_by_heat_map_mass_of_the_worked_example(r, kept):
    maps = torch.tensor([[[0.5, 0.1, 0.0], [0.2, -0.3, 0.2]]])
    assert kept_channels(maps, r)[0].nonzero().flatten().tolist() == kept


def test_an_image_of_zeros_keeps_all_its_channels():
    assert kept_channels(torch.zeros(1, 4, 3), 0.2).all()


def test_the_mass_of_a_level_removes_that_share():
    maps = torch.rand(50, 4, 40, generator=torch.Generator().manual_seed(0)) ** 2
    seen = [masses(maps)[1].flatten().sort().values.numpy()]
    for level in (0.1, 0.5, 0.9):
        assert kept_channels(maps, mass_for(seen, level)).float().mean().item() == pytest.approx(1 - level, abs=0.01)


def test_channels_are_chosen_image_by_image():
    subject = subject_of(zoo.resnet())
    whole = subject.batch["pixel_values"]
    with ConvChannels().on(subject, calibrated(subject.batch)) as held:
        held.at(0.4)
        together = answer(subject)
        share = held.measured_share()
        shares = held.cost(0.4).shares
        alone = [answer(SimpleNamespace(model=subject.model, batch={"pixel_values": whole[i : i + 1]})) for i in range(len(whole))]
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=1e-4)
    assert share == pytest.approx(0.4, abs=0.1)
    assert all(name.endswith("convolution.weight") for name in shares.products)
