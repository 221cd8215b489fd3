"""Dimensions of the stream: numbers of METHODS A15, invariance, and a planted subspace."""

from types import SimpleNamespace

import pytest
import torch

from analysis.interventions.calibration import Calibration
from analysis.interventions.structure.slicing import SlicedDimensions, principal, removed_energy, stream_in
from analysis.spec import IncompatibleSubject
from tests import zoo
from tests.interventions.structure.planted import answer, calibrated, language_subject, llama


def test_two_of_three_directions_leave_out_a_35th_of_the_energy():
    x = torch.diag(torch.tensor([5.0, 3.0, 1.0]))
    values, _ = principal(x.T @ x)
    assert values.tolist() == [25, 9, 1]
    assert removed_energy(values, 2) == pytest.approx(1 / 35) and removed_energy(values, 3) == 0 and removed_energy(values, 0) == 1


def test_the_energy_removed_is_the_error_of_the_projection():
    torch.manual_seed(0)
    x = torch.randn(50, 6, dtype=torch.float64)
    values, vectors = principal(x.T @ x)
    kept = vectors[:, :4]
    error = ((x - x @ kept @ kept.T) ** 2).sum() / (x**2).sum()
    assert removed_energy(values, 4) == pytest.approx(float(error), rel=1e-12)


def _in_a_subspace(dimensions):
    """A Llama whose stream never leaves the first so many of 16 dimensions, turned by a random rotation."""
    model = llama()
    turn, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))
    onto = turn[:, :dimensions] @ turn[:, :dimensions].T
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding.copy_(embedding @ onto)
        for layer in model.model.layers:
            for weight in (layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight):
                weight.copy_(onto @ weight)
    return language_subject(model)


def test_dimensions_that_the_stream_never_uses_cost_nothing_and_the_next_ones_do():
    subject = _in_a_subspace(10)
    dense = answer(subject)
    with SlicedDimensions().on(subject, calibrated(subject)) as held:
        applied = held.at(6 / 16)
        assert applied.achieved == 6 / 16 and applied.native_value < 1e-9
        torch.testing.assert_close(answer(subject), dense, rtol=1e-4, atol=1e-5)
        assert held.at(7 / 16).native_value > 1e-4
        assert (answer(subject) - dense).abs().max() > 1e-2
        held.at(0.0)
        assert torch.equal(answer(subject), dense)
    assert torch.equal(answer(subject), dense)


def test_at_level_1_the_stream_is_gone():
    subject = language_subject(llama())
    with SlicedDimensions().on(subject, calibrated(subject)) as held:
        assert held.at(1.0).achieved == 1.0 and held.at(1.0).native_value == 1.0
        assert not answer(subject).any(), "a norm of zeros is zero, and the head has no bias"
        shares = held.cost(1.0).shares
    assert set(shares.products.values()) == {0.0} and shares.overhead_flops == 0.0 and len(shares.products) == 14


def test_half_of_the_dimensions_leave_half_of_every_matrix_and_the_turns_between_blocks():
    subject = language_subject(llama())
    with SlicedDimensions().on(subject, calibrated(subject)) as held:
        shares = held.cost(0.5).shares
    assert set(shares.products.values()) == {0.5} and shares.static
    assert shares.overhead_flops == 2 * 8 * 8 * 2 and shares.overhead_bytes == 4 * 8 * 8 * 2


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt_neox"])
def test_where_norms_subtract_the_mean_one_direction_is_free(name):
    torch.manual_seed(0)
    model, batch = getattr(zoo, name)()
    subject = SimpleNamespace(model=model, probe_batch=lambda: batch)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        dense = model(**batch).logits[real]
    calibration = Calibration({}, {}, frozenset({"values"}), batches=(batch,))
    assert stream_in(model, batch).centred
    with SlicedDimensions().on(subject, calibration) as held:
        assert held.at(1 / stream_in(model, batch).width).native_value < 1e-9
        with torch.no_grad():
            torch.testing.assert_close(model(**batch).logits[real], dense, rtol=1e-3, atol=1e-4)


def test_norms_on_the_stream_are_refused():
    model, batch = zoo.bert()
    subject = SimpleNamespace(model=model, probe_batch=lambda: batch)
    with pytest.raises(IncompatibleSubject, match="norms beside"), SlicedDimensions().on(subject, None):
        pass


def test_moments_are_of_the_stream_in_front_of_a_block_and_behind_its_attention():
    subject = language_subject(llama())
    calibration, rows = calibrated(subject), []
    layer = subject.model.model.layers[0]
    handles = [
        part.register_forward_pre_hook(lambda _, args: rows.append(args[0].flatten(0, 1).double()))
        for part in (layer.input_layernorm, layer.post_attention_layernorm)
    ]
    with torch.no_grad():
        for batch in calibration.batches:
            subject.model(**batch)
    for handle in handles:
        handle.remove()
    x = torch.cat(rows)
    with SlicedDimensions().on(subject, calibration) as held:
        found = held.bases[0][0]
    torch.testing.assert_close(found, principal(x.T @ x)[0], rtol=1e-6, atol=1e-9)
