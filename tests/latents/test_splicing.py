"""Reconstructions and ablations in the place of activations: one mask for all arms, exact ends of the scale, every bit back on exit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analysis.interventions.levels import Levels
from analysis.interventions.measuring import KL, LOSS, Evaluation
from analysis.interventions.sweep import Baseline, sweep
from analysis.latents.masking import Mask
from analysis.latents.places import place_named, places
from analysis.latents.splicing import Ablation, Reconstruction
from analysis.models import TextWindows, subject_from
from analysis.spec import UserError
from analysis.stats.recovery import recovered_over_documents
from analysis.tasks import choose_task
from tests import zoo
from tests.latents.saes import made, perfect

SPECIAL = 1


class Opened:
    """A dictionary as splicing sees it."""

    transcoder, out_hook_name, hook_name, label = False, None, None, "toy"

    def __init__(self, sae):
        self.sae = sae

    def both(self, x):
        with torch.no_grad():
            f = self.sae.encode(x)
            return f, self.sae.decode(f)


def zeros(d):
    sae = perfect(d)
    with torch.no_grad():
        sae.W_dec.zero_()
    return sae


@pytest.fixture(scope="module")
def subject():
    ids = torch.randint(3, 60, (12, 9), generator=torch.Generator().manual_seed(0)).numpy()
    ids[:, 0] = SPECIAL
    special = ids == SPECIAL
    return subject_from(zoo.llama()[0], data=TextWindows.from_ids(ids, document=np.arange(12) // 2, special=special))


@pytest.fixture(scope="module")
def found(subject):
    return places(subject.model, {"input_ids": torch.from_numpy(subject.data.token_ids[:2])})


@pytest.fixture(scope="module")
def evaluation(subject):
    made = Evaluation(subject.model, choose_task(subject, "causal-lm"), 4, kl_positions=10**6)
    return made, Baseline.of(made.dense())


WHERE = ("blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.0.attn.hook_z", "blocks.1.mlp.hook_post")
MASK = Mask(frozenset({SPECIAL}))


def measured(arm, subject, evaluation):
    with arm.on(subject) as held:
        held.at(1.0)
        return evaluation[0].measure(), held.cost(1.0)


@pytest.mark.parametrize("name", WHERE)
@pytest.mark.parametrize("mask", [MASK, Mask(), Mask(frozenset({SPECIAL}), (2, None))], ids=lambda m: m.words)
def test_the_identity_recovers_everything_and_zeros_recover_exactly_nothing(name, mask, subject, found, evaluation):
    place = place_named(found, name)
    base = evaluation[1]
    zero, _ = measured(Ablation(place, mask=mask), subject, evaluation)
    truth, _ = measured(Reconstruction.of(Opened(perfect(place.width)), place, mask=mask), subject, evaluation)
    nothing, _ = measured(Reconstruction.of(Opened(zeros(place.width)), place, mask=mask), subject, evaluation)
    assert not base.increase(truth).any(), "not a bit of difference"
    assert base.increase(zero).any()
    assert not truth[KL].total.any()
    np.testing.assert_array_equal(base.increase(nothing), base.increase(zero))
    size = np.abs(base.increase(zero))
    assert recovered_over_documents(base.increase(truth) * 0, size, base.resample).value == 1
    assert recovered_over_documents(size, size, base.resample).value == 0


def test_special_tokens_stay_in_every_arm_alike(subject, found, evaluation):
    """Where position 0 is spared, no arm touches it: what differs from replacing it too is the same in both."""
    place = place_named(found, WHERE[0])
    arms = {"zero": Ablation(place, mask=MASK), "sae": Reconstruction.of(Opened(zeros(place.width)), place, mask=MASK)}
    for arm in arms.values():
        seen = []
        with arm.on(subject) as held:
            held.at(1.0)
            handle = subject.model.model.layers[1].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].clone()))
            with torch.no_grad():
                subject.model(input_ids=torch.from_numpy(subject.data.token_ids[:3]))
            handle.remove()
        assert (seen[0][:, 0] != 0).any() and not seen[0][:, 1:].any()
        assert held.cost(1.0).facts["n_replaced"] == 3 * 8 and held.cost(1.0).facts["n_kept"] == 3
    everything, _ = measured(Ablation(place), subject, evaluation)
    spared, _ = measured(arms["zero"], subject, evaluation)
    assert evaluation[1].increase(everything).sum() != evaluation[1].increase(spared).sum()


def test_mean_ablation_puts_the_mean_there(subject, found):
    place, value = place_named(found, WHERE[0]), torch.arange(16.0)
    seen = []
    with Ablation(place, value, mask=MASK).apply(subject, 1.0):
        handle = subject.model.model.layers[1].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].clone()))
        with torch.no_grad():
            subject.model(input_ids=torch.from_numpy(subject.data.token_ids[:3]))
        handle.remove()
    assert (seen[0][:, 1:] == value).all()


def test_padding_stays_as_it_is(found):
    model, batch = zoo.llama()
    place = place_named(found, WHERE[0])
    own = subject_from(model)
    seen = []
    with Ablation(place).on(own) as held:
        held.at(1.0)
        handle = model.model.layers[1].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].clone()))
        with torch.no_grad():
            model(**batch)
        handle.remove()
    padded = batch["attention_mask"] == 0
    assert not seen[0][~padded].any() and (seen[0][padded] != 0).any()
    assert held.cost(1.0).facts["n_replaced"] == int((~padded).sum())


def test_a_sweep_measures_it_as_a_point_with_its_l0(subject, found, evaluation):
    place = place_named(found, WHERE[0])
    sae = made("topk", d_in=16, d_sae=40)
    arm = Reconstruction.of(Opened(sae), place, mask=MASK, l0=3.0)
    assert (arm.kind, arm.target) == ("point", "activations")
    with arm.on(subject) as held:
        points = list(sweep(held, evaluation[0], evaluation[1], Levels.of("adaptive", (0.05,), 0.0125, 10.0), dense=evaluation[1].measured))
    assert [point.level for point in points] == [0, 1]
    last = points[1]
    assert (last.applied.native_value, last.applied.native_unit) == (3.0, "latents per token")
    assert last.cost.facts["l0"] == pytest.approx(3, abs=0.2) and last.cost.counts == ()
    assert evaluation[1].increase(last.measured).sum() != 0 and np.isfinite(last.measured[LOSS].total).all()


def test_every_bit_is_back_on_exit_also_after_an_error(subject, found):
    ids, place = torch.from_numpy(subject.data.token_ids), place_named(found, WHERE[2])

    def answer():
        with torch.no_grad():
            return subject.model(input_ids=ids).logits

    before = answer()
    arm = Reconstruction.of(Opened(made("standard", d_in=16, d_sae=8)), place, mask=MASK)
    with pytest.raises(KeyError), arm.on(subject) as held:
        held.at(1.0)
        assert not torch.equal(answer(), before)
        held.at(0.0)
        assert torch.equal(answer(), before)
        held.at(1.0)
        raise KeyError
    assert torch.equal(answer(), before)
    assert not subject.model._forward_pre_hooks


def test_a_transcoder_reads_one_place_and_replaces_another(subject, found):
    """What it predicts from the residual stream before block 1 stands where block 1's MLP gives its output."""
    reads, out = place_named(found, "blocks.0.hook_resid_post"), place_named(found, "blocks.1.hook_mlp_out")

    class Twice(Opened):
        transcoder = True

        def both(self, x):
            return x, 2 * x

    with pytest.raises(UserError, match="predicts must be given"):
        Reconstruction.of(Twice(None), reads)
    ids, seen = torch.from_numpy(subject.data.token_ids[:3]), {}
    arm = Reconstruction.of(Twice(None), reads, out, mask=MASK)
    layer = subject.model.model.layers[1]
    with arm.apply(subject, 1.0):
        handles = [
            layer.register_forward_pre_hook(lambda _, args: seen.update(x=args[0].clone())),
            layer.register_forward_hook(lambda _, args, given: seen.update(y=(given[0] if isinstance(given, tuple) else given).clone())),
            layer.post_attention_layernorm.register_forward_pre_hook(lambda _, args: seen.update(middle=args[0].clone())),
        ]
        with torch.no_grad():
            subject.model(input_ids=ids)
        for handle in handles:
            handle.remove()
    added = seen["y"] - seen["middle"]
    assert torch.allclose(added[:, 1:], 2 * seen["x"][:, 1:], atol=1e-5)
    assert not torch.allclose(added[:, 0], 2 * seen["x"][:, 0], atol=1e-3), "special tokens keep what the MLP gave"


def test_a_point_has_two_levels_only(subject, found):
    arm = Ablation(place_named(found, WHERE[0]))
    with arm.on(subject) as held, pytest.raises(UserError, match="must be 0 or 1, got 0.5"):
        held.at(0.5)


def test_arms_that_differ_have_names_that_differ(found):
    place = place_named(found, WHERE[0])
    arms = [Ablation(place), Ablation(place, torch.ones(16)), Ablation(place, mask=MASK), Ablation(place, mask=Mask(positions=(1, None)))]
    arms += [Ablation(place_named(found, WHERE[1])), Reconstruction.of(Opened(None), place)]
    assert len({arm.slug for arm in arms}) == len(arms)


def test_the_mask_leaves_out_special_tokens_and_positions_training_left_out(subject):
    ids = torch.tensor([[5, SPECIAL, 7, 8]])
    assert Mask(frozenset({SPECIAL}), (1, None)).judged(ids).tolist() == [[False, False, True, True]]
    assert Mask(positions=(None, 2)).judged(ids).tolist() == [[True, True, False, False]]
    assert Mask().judged(ids).all() and Mask().words == "every token"

    class Trained:
        metadata = {"seqpos_slice": [1, None]}

    assert Mask.of(subject, Trained()) == Mask(frozenset(), (1, None))
    assert Mask.of(subject) == Mask()
