"""The formulas of docs/scaling.md pass through what was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import costs
from benchmarks.costs import GPT2, LLAMA70, SMOLLM2, TWO_CORES

ROOT = Path(__file__).resolve().parents[2]


def test_a_forward_pass_takes_the_seconds_that_were_measured():
    assert costs.forward(SMOLLM2, TWO_CORES, 1024, 256) == pytest.approx(1.04, rel=0.03)


def test_counting_every_neuron_costs_the_share_that_was_measured():
    whole = costs.neuron_activity(SMOLLM2, TWO_CORES, 1024, 256)
    assert whole / costs.forward(SMOLLM2, TWO_CORES, 1024, 256) == pytest.approx(1.14, abs=0.02)


def test_measures_of_heads_cost_what_was_measured_within_its_spread():
    whole = costs.head_sparsity(SMOLLM2, TWO_CORES, 1024, 1024)
    assert 1.46 <= whole / costs.forward(SMOLLM2, TWO_CORES, 1024, 1024) <= 2.12


def test_weights_are_read_and_decomposed_in_the_seconds_that_were_measured():
    assert costs.weight_sparsity(3.944e9, TWO_CORES) == pytest.approx(7.313, rel=0.01)
    assert costs.weight_spectrum(GPT2, TWO_CORES) == pytest.approx(21.1, rel=0.05)


def test_the_large_model_has_the_parameters_its_shapes_add_up_to():
    shapes = sum(n * long * short for n, long, short in LLAMA70.spectra)
    assert shapes == pytest.approx(LLAMA70.parameters, rel=0.03)
    assert sum(n for n, _, _ in LLAMA70.spectra) == LLAMA70.matrices


def test_the_tables_of_the_page_are_those_the_formulas_give():
    made = subprocess.run([sys.executable, "-m", "benchmarks.costs"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs" / "scaling.md").read_text()
    for line in made.splitlines():
        assert line in page, line
