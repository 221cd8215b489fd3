"""What tests of executors share: the divided analysis in the registry, one thread, and a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import importlib.util
import os
import secrets
from pathlib import Path

import pytest
import torch

import analysis
from tests import executor_cases as cases

REGISTERED = analysis.ANALYSES
CLIENT_PORT = 24687
"""Ray's workers listen from 10002 to 19999."""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """One thread here as in workers; the divided analysis in the registry, here and there; units of a few windows."""
    monkeypatch.setenv("SPARSESCOPE_EXTRA_ANALYSES", "tests.executor_cases:DIVIDED")
    monkeypatch.setenv("SPARSESCOPE_CACHE", str(tmp_path / "cache"))
    for module in ("analysis", "analysis.__main__"):
        monkeypatch.setattr(f"{module}.ANALYSES", (*REGISTERED, cases.DIVIDED))
    for module in ("analysis.neurons.neuron_activity", "analysis.attention.head_sparsity"):
        monkeypatch.setattr(f"{module}.UNIT_TOKENS", 60)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cluster():
    """Two nodes of one core each, with a token of their own; skipped where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install -r requirements-ray.txt")
    before = dict(os.environ)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent.parent)  # nodes must be able to import the tests
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "ray_client_server_port": CLIENT_PORT})
    try:
        found.add_node(num_cpus=1)
        yield found
    finally:
        found.shutdown()
        os.environ.clear()
        os.environ.update(before)
