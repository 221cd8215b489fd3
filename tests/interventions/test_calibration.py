"""Calibrated statistics equal those of stored inputs and of naive gradients, on models of every kind, with padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from analysis.interventions.calibration import calibrate
from analysis.interventions.reading import InputSums, Sums, patches
from analysis.interventions.scope import weight_scope
from analysis.interventions.weights.taylor import squared_taylor_scores
from analysis.models import GivenBatches, TextWindows, subject_from
from analysis.spec import IncompatibleSubject, UserError
from analysis.tasks import choose_task
from tests import zoo

V = 60


def batches(n=3, length=7):
    """Batches of two sequences; each second one is padded by another number of positions."""
    made = []
    for i in range(n):
        random = torch.Generator().manual_seed(i)
        mask = torch.ones(2, length, dtype=torch.long)
        mask[1, length - 1 - i :] = 0
        made.append({"input_ids": torch.randint(3, V, (2, length), generator=random), "attention_mask": mask})
    return made


def stored_inputs(model, made, modules):
    """What each module really received at positions that are not padding, all rows kept: [rows, d_in] float64."""
    kept = {name: [] for name in modules}
    mask = None

    def hook(name):
        return lambda module, args: kept[name].append(args[0][mask.bool()].detach().double())

    handles = [model.get_submodule(name).register_forward_pre_hook(hook(name)) for name in modules]
    with torch.no_grad():
        for batch in made:
            mask = batch["attention_mask"]
            model(**batch)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(rows) for name, rows in kept.items()}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_sums_are_those_of_the_stored_inputs_without_padding(family):
    model, _ = zoo.ZOO[family]()
    scope, made = weight_scope(model), batches()
    found = calibrate(model, scope, made, {"inputs", "gram"})
    stored = stored_inputs(model, made, [m.module for m in scope.members])
    n_real = sum(int(batch["attention_mask"].sum()) for batch in made)
    assert n_real < 42 and not found.missing and len(found.matrices) == len(scope.members)
    for member in scope.members:
        rows, one = stored[member.module], found.of(member.name)
        assert one.n == n_real == len(rows) and one.n_sequences == 6
        assert rows.shape[1] == member.matrix_shape[2], "the input dimension, also where the matrix is stored [in, out]"
        assert torch.allclose(one.square_sum, (rows**2).sum(0), rtol=1e-12)
        assert torch.allclose(one.total, rows.sum(0), rtol=1e-9, atol=1e-12)
        assert torch.allclose(one.gram, rows.T @ rows, rtol=1e-9, atol=1e-12)
        assert torch.allclose(one.variance(), rows.var(0, unbiased=False), rtol=1e-6, atol=1e-12)
        assert torch.allclose(one.norms(), rows.norm(dim=0))
        assert torch.allclose(one.norms_per_sequence() * 6**0.5, one.norms()) and torch.allclose(one.sums_per_sequence() * 6, one.total)


def test_padding_changes_nothing_but_a_missing_mask_does():
    model, _ = zoo.llama()
    scope, made = weight_scope(model), batches(2)
    found = calibrate(model, scope, made, {"inputs"})
    filled = [{**batch, "input_ids": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 5)} for batch in made]
    other = calibrate(model, scope, filled, {"inputs"})
    unmasked = calibrate(model, scope, [{"input_ids": batch["input_ids"]} for batch in filled], {"inputs"})
    for member in scope.members:
        assert torch.equal(found.of(member.name).square_sum, other.of(member.name).square_sum)
        assert unmasked.of(member.name).n == 28 > found.of(member.name).n


def test_the_split_into_batches_changes_nothing():
    model, _ = zoo.gpt2()
    scope = weight_scope(model)
    ids = torch.randint(3, V, (6, 7), generator=torch.Generator().manual_seed(2))
    one = calibrate(model, scope, [{"input_ids": ids}], {"inputs", "gram"})
    three = calibrate(model, scope, [{"input_ids": part} for part in ids.split(2)], {"inputs", "gram"})
    for key, found in one.matrices.items():
        assert found.n == three.matrices[key].n == 42 and found.n_sequences == three.matrices[key].n_sequences == 6
        assert torch.allclose(found.gram, three.matrices[key].gram, rtol=1e-6)


def test_sums_of_the_same_rows_in_other_pieces_agree_to_ten_digits():
    rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(0)) + 3
    sums = []
    for size in (60, 7):
        one = InputSums(with_gram=True)
        for part in rows.split(size):
            one.add(Sums(part))
        sums.append(one)
    whole, pieces = sums
    assert whole.n == pieces.n == 60
    for name in ("total", "square_sum", "gram"):
        assert torch.allclose(getattr(whole, name), getattr(pieces, name), rtol=1e-12)


def test_second_moments_are_only_there_where_asked_for_and_the_model_is_as_before():
    model, batch = zoo.llama()
    model.train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = calibrate(model, weight_scope(model), [batch], {"inputs"})
    assert all(one.gram is None and one.gradient is None for one in found.matrices.values())
    assert model.training and all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    with pytest.raises(UserError, match="gram"):
        found.of("model.layers.0.mlp.up_proj.weight").want("gram")


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_experts_of_a_stack_see_their_own_tokens_only(implementation):
    model, _ = zoo.mixtral(implementation=implementation)
    scope, made = weight_scope(model), batches(1)
    found = calibrate(model, scope, made, {"inputs"})
    stack = next(m for m in scope.members if m.matrix_shape[0] == 4)
    counts = [0 if found.of(stack.name, e) is None else found.of(stack.name, e).n for e in range(4)]
    assert sum(counts) == 2 * int(made[0]["attention_mask"].sum()), "two experts a token"
    first = stack.name.replace("down_proj", "gate_up_proj")
    block = stack.name.partition(".experts")[0]
    entering = stored_inputs(model, made, [block])[block]
    total = sum(found.of(first, e).square_sum for e in range(4) if found.of(first, e) is not None)
    assert torch.allclose(total, 2 * (entering**2).sum(0))


def test_an_expert_that_no_token_reached_has_a_reason_and_no_numbers():
    model, batch = zoo.listed_experts()
    scope = weight_scope(model)
    found = calibrate(model, scope, [batch], {"inputs"})
    idle = [m for m in scope.members if ".experts.2." in m.name]
    assert idle and all(found.of(m.name) is None for m in idle)
    assert {found.missing[m.name, 0] for m in idle} == {"no row of the calibration data reached it."}


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, (2, 3), stride=2, padding=(1, 2), dilation=(2, 1)),
        nn.Conv2d(3, 4, 3, padding="same", padding_mode="circular"), nn.Conv2d(3, 4, 1, bias=False),
    ],
)  # fmt: skip
def test_patches_times_the_flattened_kernel_are_the_convolution(conv):
    x = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    out = patches(conv, x) @ conv.weight.flatten(1).T
    expected = conv(x) - (0 if conv.bias is None else conv.bias[None, :, None, None])
    assert torch.allclose(out, expected.movedim(1, -1).reshape(-1, 4), atol=1e-5)


def test_patches_in_one_and_three_dimensions():
    random = torch.Generator().manual_seed(0)
    for conv, x in ((nn.Conv1d(3, 4, 5, padding=2, stride=2), (2, 3, 11)), (nn.Conv3d(2, 4, 2, dilation=2), (1, 2, 5, 4, 6))):
        values = torch.randn(x, generator=random)
        out = patches(conv, values) @ conv.weight.flatten(1).T + conv.bias
        assert torch.allclose(out, conv(values).movedim(1, -1).reshape(-1, 4), atol=1e-5)


def test_convolutions_of_a_real_class_are_read_as_patches():
    model, batch = zoo.resnet()
    scope = weight_scope(model)
    found = calibrate(model, scope, [batch], {"inputs", "gram"})
    assert not found.missing
    member = next(m for m in scope.members if m.info.shape[-1] == 3)
    entering = []
    handle = model.get_submodule(member.module).register_forward_pre_hook(lambda module, args: entering.append(args[0].detach()))
    with torch.no_grad():
        model(**batch)
    handle.remove()
    module = model.get_submodule(member.module)
    rows = F.unfold(entering[0], 3, padding=module.padding, stride=module.stride).transpose(1, 2).flatten(0, 1).double()
    assert torch.allclose(found.of(member.name).gram, rows.T @ rows, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", sorted(zoo.ZOO))
def test_every_matrix_of_every_family_is_measured_or_has_a_reason(family):
    model, batch = zoo.ZOO[family]()
    try:
        scope = weight_scope(model)
    except UserError:
        return
    found = calibrate(model, scope, [batch], {"inputs", "gram"})
    for member in scope.members:
        for index in range(member.matrix_shape[0]):
            one, reason = found.of(member.name, index), found.missing.get((member.name, index))
            assert (one is None) == (reason is not None), member.name
            if one is not None:
                d_in = member.matrix_shape[2]
                assert one.square_sum.shape == one.total.shape == (d_in,) and one.gram.shape == (d_in, d_in)
                assert torch.allclose(one.gram.diagonal(), one.square_sum)
            else:
                assert reason.endswith(".") and family not in ("llama", "gpt2", "bert", "opt", "t5", "vit", "mlp", "phi3", "gpt_neox")


def test_a_convolution_in_groups_says_why_it_cannot_be_measured():
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1))
    found = calibrate(model, weight_scope(model), [torch.randn(2, 4, 6, 6)], {"inputs"})
    assert "4 groups" in found.missing["0.weight", 0] and found.of("2.weight") is not None


def test_data_without_a_batch_is_refused():
    model, _ = zoo.llama()
    with pytest.raises(UserError, match="at least one batch"):
        calibrate(model, weight_scope(model), [], {"inputs"})


# ---------------------------------------------------------------------------------------------------------------------
# Gradients


class Slope(nn.Module):
    """Two layers without a bias; a classifier of three classes."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(1)
        self.one, self.two = nn.Linear(5, 4, bias=False), nn.Linear(4, 3, bias=False)
        self.one.weight.data.copy_(torch.randn(4, 5, generator=random))
        self.two.weight.data.copy_(torch.randn(3, 4, generator=random))

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)))


def classifier(n=12):
    random = torch.Generator().manual_seed(3)
    x, y = torch.randn(n, 5, generator=random), torch.randint(0, 3, (n,), generator=random)
    subject = subject_from(Slope().eval(), data=GivenBatches([x[:5], x[5:]], labels=y.numpy()))
    return subject, choose_task(subject), x, y


def weights_only(subject):
    return weight_scope(subject.model, include=("head",))


def naive(subject, x, y):
    """Gradient of each example by itself, [n, 4, 5] of the first layer."""
    found = []
    for i in range(len(x)):
        subject.model.zero_grad()
        F.cross_entropy(subject.model(x[i : i + 1]), y[i : i + 1]).backward()
        found.append(subject.model.one.weight.grad.clone())
    subject.model.zero_grad()
    return torch.stack(found)


def test_gradients_are_means_over_examples_and_squares_are_taken_by_example():
    subject, task, x, y = classifier()
    each = naive(subject, x, y)
    found = calibrate(subject.model, weights_only(subject), [], {"gradients"}, task=task).of("one.weight")
    assert torch.allclose(found.gradient, each.mean(0), atol=1e-7)
    assert torch.allclose(found.gradient_square, (each**2).mean(0), atol=1e-8)
    assert not torch.allclose(found.gradient_square, each.mean(0) ** 2, atol=1e-3), "a batch's mean squared is another number"
    w = subject.model.one.weight.detach()
    assert torch.allclose(found.gate_square, ((w * each).sum(2) ** 2).mean(0).double(), atol=1e-7)


def test_fisher_blocks_are_inverses_of_the_mean_outer_product():
    subject, task, x, y = classifier()
    each = naive(subject, x, y).flatten(1).double()
    made = calibrate(subject.model, weights_only(subject), [], {"fisher"}, task=task, block=7, damp=1e-3)
    found = made.of("one.weight").fisher_inverse
    assert found.shape == (3, 7, 7) and made.facts["fisher_block"] == 7
    part = each[:, 7:14]
    direct = torch.linalg.inv(1e-3 * torch.eye(7, dtype=torch.float64) + part.T @ part / len(x))
    assert torch.allclose(found[1], direct, rtol=1e-3)


def test_hessian_times_gradient_is_that_of_the_tempered_mean_loss():
    subject, task, x, y = classifier()
    made = calibrate(subject.model, weights_only(subject), [], {"hessian"}, task=task, temperature=2.0)
    w1, w2 = (p.detach().double() for p in subject.model.parameters())

    def loss(flat):
        one, two = flat[:20].view(4, 5), flat[20:].view(3, 4)
        return F.cross_entropy(torch.tanh(x.double() @ one.T) @ two.T / 2.0, y)

    flat = torch.cat([w1.reshape(-1), w2.reshape(-1)])
    g = torch.func.grad(loss)(flat)
    expected = torch.autograd.functional.hessian(loss, flat) @ g
    assert torch.allclose(made.of("one.weight").hessian_gradient.double(), expected[:20].view(4, 5), atol=1e-6)
    assert torch.allclose(made.of("two.weight").hessian_gradient.double(), expected[20:].view(3, 4), atol=1e-6)
    assert float(expected.abs().max()) > 1e-3


def test_the_usual_temperature_is_grasps():
    """METHODS A3: 200. The flatter the distribution, the less of the Hessian is left; ranks change with it."""
    subject, task, _, _ = classifier()
    made = [calibrate(subject.model, weights_only(subject), [], {"hessian"}, task=task, **t) for t in ({}, {"temperature": 200.0})]
    assert made[0].facts["temperature"] == 200
    assert torch.equal(*(one.of("one.weight").hessian_gradient for one in made))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_language_models_gradients_are_those_of_the_loss_per_token(family):
    model, _ = zoo.ZOO[family]()
    subject = subject_from(model, data=TextWindows.from_ids(torch.randint(3, V, (4, 9), generator=torch.Generator().manual_seed(0))))
    task = choose_task(subject, "causal-lm")
    scope = weight_scope(model)
    found = calibrate(model, scope, [], {"gradients", "hessian"}, task=task)
    ids = torch.from_numpy(np.asarray(subject.data.token_ids))
    logits = model(input_ids=ids).logits[:, :-1]
    loss = F.cross_entropy(logits.reshape(-1, V), ids[:, 1:].reshape(-1))
    member = scope.members[2]
    (g,) = torch.autograd.grad(loss, [member.parameter])
    one = found.of(member.name)
    assert torch.allclose(one.gradient, member.matrix(g)[0], atol=1e-6)
    assert one.gradient.shape == member.matrix_shape[1:] and one.hessian_gradient.abs().max() > 0
    assert found.facts["n_gradient_examples"] == 4 and found.facts["n_gradient_positions"] == 32


def test_squares_of_a_language_model_are_per_token_whatever_an_examples_length():
    """g is an example's summed gradient over the root of its scored tokens, so that E[g^2] is the curvature of the loss per token."""
    model, _ = zoo.llama()
    ids = torch.randint(3, V, (3, 9), generator=torch.Generator().manual_seed(0))
    data = TextWindows.from_ids(ids)
    data.special = np.zeros((3, 9), dtype=bool)
    data.special[1, 5:] = True  # four tokens of the second example are not scored
    subject = subject_from(model, data=data)
    found = calibrate(model, weight_scope(model), [], {"gradients"}, task=choose_task(subject, "causal-lm"))
    member, expected, lengths = weight_scope(model).members[4], 0.0, []
    for row, hidden in zip(ids, torch.from_numpy(data.special)):
        targets = row[1:].masked_fill(hidden[1:], -100)
        loss = F.cross_entropy(model(input_ids=row[None]).logits[0, :-1], targets, ignore_index=-100, reduction="sum")
        lengths.append(int((targets != -100).sum()))
        expected = expected + torch.autograd.grad(loss, [member.parameter])[0] ** 2 / lengths[-1] / 3
    assert lengths == [8, 4, 8]
    assert torch.allclose(found.of(member.name).gradient_square, expected, rtol=1e-4, atol=1e-10)


def test_gradients_leave_the_model_as_it_was():
    subject, task, _, _ = classifier()
    subject.model.two.weight.requires_grad_(False)
    calibrate(subject.model, weights_only(subject), [], {"gradients"}, task=task)
    assert [p.requires_grad for p in subject.model.parameters()] == [True, False]
    assert all(p.grad is None for p in subject.model.parameters())


def test_a_task_without_answers_has_no_gradient():
    subject, _, x, _ = classifier()
    subject = subject_from(subject.model, data=GivenBatches([x]))
    with pytest.raises(IncompatibleSubject, match="flat at the dense model"):
        calibrate(subject.model, weights_only(subject), [], {"gradients"}, task=choose_task(subject, "divergence"))
    with pytest.raises(IncompatibleSubject, match="need a task"):
        calibrate(subject.model, weights_only(subject), [], {"fisher"})


def test_fisher_blocks_that_would_not_fit_are_refused(monkeypatch):
    subject, task, _, _ = classifier()
    monkeypatch.setattr("analysis.interventions.calibration.FISHER_BYTES", 1000)
    with pytest.raises(UserError, match="smaller blocks"):
        calibrate(subject.model, weights_only(subject), [], {"fisher"}, task=task)


def test_squares_by_example_predict_what_a_regressions_weights_are_worth_and_a_batchs_mean_does_not():
    """SENSITIVITY 8.4 on a noisy linear regression at its minimum: the rise of the loss without its weights."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 3, generator=random, dtype=torch.float64)
    y = x @ torch.tensor([0.5, -1.0, 0.3], dtype=torch.float64) + torch.randn(4000, generator=random, dtype=torch.float64)
    w = torch.linalg.lstsq(x, y).solution
    g = (x @ w - y)[:, None] * x
    rise = float((y**2).mean() - ((x @ w - y) ** 2).mean()) / 2
    predicted = lambda square: float(squared_taylor_scores(w, square).sum()) / 2  # noqa: E731
    assert predicted((g**2).mean(0)) == pytest.approx(rise, rel=0.15)
    assert predicted(g.mean(0) ** 2) < 1e-6 * rise


def test_the_squares_that_are_measured_are_a_curvature_where_the_model_is_right():
    """Labels drawn from the model's own probabilities: E[g^2] is the diagonal of the Hessian, and the squared mean gradient is not."""
    random = torch.Generator().manual_seed(5)
    head = nn.Linear(4, 3, bias=False)
    head.weight.data.copy_(torch.randn(3, 4, generator=random))
    x = torch.randn(1500, 4, generator=random)
    y = torch.multinomial(torch.softmax(head(x).detach(), 1), 1, generator=random).squeeze(1)
    subject = subject_from(nn.Sequential(head).eval(), data=GivenBatches([x], labels=y.numpy()))
    found = calibrate(subject.model, weights_only(subject), [], {"gradients"}, task=choose_task(subject)).of("0.weight")
    p = torch.softmax(head(x).detach(), 1)
    curvature = (p * (1 - p)).T @ x**2 / len(x)
    assert torch.allclose(found.gradient_square, curvature, rtol=0.15)
    assert float((found.gradient**2 / curvature).max()) < 0.02
