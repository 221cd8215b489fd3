"""essential_sparsity with shares per matrix (`ratios`) and as published code counts (`variant`), against shares known by hand."""

import pytest

from analysis.interventions.pruning import WeightPruning
from analysis.interventions.ratios import RATIOS
from analysis.runner import run
from analysis.sensitivity.choices import prunings
from analysis.sensitivity.essential_sparsity import ESSENTIAL_SPARSITY, EssentialSparsityConfig
from analysis.sensitivity.exporting import export_masks
from analysis.spec import UnknownName, UserError
from store import Store
from tests.sensitivity_run import digits, make_allocation, make_digits, make_matrices


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("ratios"))
    return store, make_digits(store, ratios="none, uniform, uniform+, owl", levels="0.5, 0.85, 0.95")


def test_each_ratio_is_a_curve_of_its_own_with_the_shares_worked_out_by_hand(shared):
    """Two matrices of one size; of uniform+ the last keeps 20 % at least, so at 85 % the first keeps 10 %."""
    store, info = shared
    where = store.read(info, "pruned_where").query("level == 0.85")
    shares = {key: part.set_index("tensor")["zero_share"].round(3).tolist() for key, part in where.groupby(["method", "scope"])}
    assert set(shares) == {("magnitude", "global"), *(("magnitude" + name, "per_matrix") for name in ("", " uniform+", " owl"))}
    assert shares["magnitude", "per_matrix"] == [0.85, 0.85] and shares["magnitude uniform+", "per_matrix"] == [0.9, 0.8]
    assert sum(shares["magnitude", "global"]) == pytest.approx(1.7, abs=0.002) and shares["magnitude", "global"] != [0.85, 0.85]
    drops = store.read(info, "drop_points")
    assert drops["method"].nunique() == 3 and len(drops) == 4 * 4 and drops.query("method == 'magnitude owl'")["n_draws"].eq(1).all()


def test_a_level_that_the_shares_cannot_reach_is_left_out_and_said(shared):
    """At 95 % the 20 % of uniform+'s last matrix alone are more than may be kept."""
    store, info = shared
    levels = store.read(info, "curve_points").query("metric == 'loss'").groupby("method")["level"].max()
    assert levels["magnitude uniform+"] == 0.85 and levels["magnitude owl"] == 0.95
    (said,) = store.provenance(info)["facts"]["left_out"]
    assert "magnitude uniform+, per matrix at 0.95: density must be at least 0.1 for uniform+" in said
    curve = ESSENTIAL_SPARSITY.figure("curve").draw(store.read(info, "curve_points"), store.provenance(info))
    assert said in " ".join(curve.notes)


def test_the_masks_of_such_a_curve_can_be_exported(shared, tmp_path, monkeypatch):
    store, info = shared
    monkeypatch.setattr("analysis.models.open_subject", lambda *_, **__: digits())
    masks = export_masks(store, info.id, 0.85, tmp_path / "masks.safetensors", curve="magnitude uniform+, per matrix")
    from safetensors.torch import load_file

    assert [round(1 - float(mask.float().mean()), 3) for _, mask in sorted(load_file(masks).items())] == [0.9, 0.8]


def test_every_ratio_can_be_asked_for_and_the_same_curve_comes_once():
    every = ", ".join(["none", "uniform", *(ratio.slug for ratio in RATIOS)])
    found = prunings("magnitude", "unstructured", "auto", "", "", 0, 1, ratios=every)
    assert [one.scope for one in found] == ["global", *["per_matrix"] * (1 + len(RATIOS))]
    assert [type(one.ratio) for one in found[2:]] == list(RATIOS)
    assert len(prunings("magnitude", "unstructured", "per_matrix", "", "", 0, 1, ratios="none, uniform")) == 1
    assert prunings("wanda", "unstructured", "auto", "", "", 0, 1, ratios="owl")[0].scope == "per_row"


def test_code_counts_as_published_code_does_and_its_curve_has_a_name_of_its_own(tmp_path):
    store = Store(tmp_path)
    info = make_digits(store, variant="code", group="per_matrix", levels="0.3")
    points = store.read(info, "curve_points").query("metric == 'loss' and level == 0.3").set_index("method")
    with WeightPruning(scope="per_matrix", variant="code").on(digits()) as held:
        expected = held.at(0.3).achieved
    with WeightPruning(scope="per_matrix").on(digits()) as held:
        assert held.at(0.3).achieved != expected
    assert points["achieved"].to_dict() == {"magnitude (code)": expected}
    by_row = prunings("magnitude", "unstructured", "per_row", "", "", 0, 1, variant="code")[0]
    assert by_row.counts_as == "text", "of rows, code and text count the same"


def test_an_allocation_is_compared_with_any_ratio(tmp_path):
    store = Store(tmp_path)
    info = make_allocation(store, make_matrices(store, split="choice"), levels="0.3", others="uniform, uniform+, global_floor")
    methods = set(store.read(info, "curve_points")["method"])
    assert methods == {"magnitude" + name for name in (" allocated", "", " uniform+", " global_floor")}
    assert set(store.read(info, "allocation_outcomes")["other"]) == {"dense", "uniform", "uniform+", "global_floor"}


def test_what_is_no_ratio_or_has_no_shares_is_refused_in_a_sentence(tmp_path):
    def ask(**settings):
        run(ESSENTIAL_SPARSITY, {"model": digits()}, EssentialSparsityConfig(**settings), Store(tmp_path))

    with pytest.raises(UnknownName, match="ratios must be of none, uniform, er, erk, .*owl, got 'best'"):
        ask(ratios="best")
    with pytest.raises(UserError, match="ratio erk must go with scope per_matrix or per_row, got global"):
        ask(ratios="erk", group="global")
    with pytest.raises(UserError, match="split must be report .* with owl"):
        ask(ratios="owl", split="all")
    with pytest.raises(UserError, match="ratios must name at least one"):
        ask(ratios=" ,")
