"""A real Ray cluster of two nodes on this machine: a node killed in the middle, its client, wrong addresses and tokens, what has no room.

The contract that it shares with local workers is in `test_contract`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis import find_analysis
from analysis.executors.cluster import RayExecutor, _threads_each
from analysis.sensitivity.matrix_sensitivity import UNIT
from analysis.spec import UserError
from store import Store
from tests import executor_cases as cases
from tests.executors.conftest import CLIENT_PORT
from tests.executors.test_contract import SWEEPS, sealed, squares

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def killing(cluster):
    """An executor of a worker on each of three nodes, and a progress callback that kills one of them once all are at work.

    All nodes have one address here, and a program that asks is attached to any of them: that one is not killed.
    """
    import ray

    cluster.add_node(num_cpus=1)
    executor, killed = RayExecutor(3, cluster.address, threads=1), []

    def kill(progress):
        if progress.what in (UNIT, "units") and progress.done >= 1 and not killed and executor.status().workers == 3:
            killed.append(progress.done)
            mine = ray.get_runtime_context().get_node_id()
            cluster.remove_node(next(node for node in cluster.worker_nodes if node.node_id != mine), allow_graceful=False)

    yield executor, kill, killed
    if not killed:
        cluster.remove_node(next(iter(cluster.worker_nodes)))


def test_a_node_killed_in_the_middle_of_a_sweep_costs_time_and_no_point(killing, tmp_path):
    executor, kill, killed = killing
    store = Store(tmp_path / "results")
    info = sealed(store, "toy_divided", cases.nothing, executor, kill, units=60, seconds=0.5)
    assert killed and executor.status().lost >= 1
    assert squares(store, info) == [(i, i * i) for i in range(60)], "all there, none twice"


def test_a_grid_whose_node_may_be_killed_at_any_time_has_the_rows_of_one_process(killing, tmp_path):
    executor, kill, _ = killing
    slug = "matrix_sensitivity"
    store, other = Store(tmp_path / "one"), Store(tmp_path / "two")
    alone = sealed(store, slug, cases.llama, **SWEEPS[slug])
    shared = sealed(other, slug, cases.llama, executor, kill, **SWEEPS[slug])
    for table in find_analysis(slug).tables:
        one, two = store.read(alone, table.name), other.read(shared, table.name)
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    points = other.read(shared, "matrix_points")
    assert len(points) and not points.duplicated(["kind", "tensor", "level"]).any(), "none twice"


def test_what_the_cluster_has_no_room_for_is_refused_before_it_would_wait_for_ever(cluster, tmp_path):
    refused = {  # a node killed a moment ago may still be counted
        r"^the cluster must have room for 9 workers of 1 cores each, got room for [23]; ask for fewer.$": {"workers": 9},
        r"^the cluster must have room for 1 workers of 1 cores and 1 GPUs each, got room for 0": {"workers": 1, "gpus": 1},
        r"^a node must have about 1000000.0 GB for a worker, got ": {"workers": 1, "memory": 10**15},
    }
    for words, asked in refused.items():
        with pytest.raises(UserError, match=words):
            sealed(Store(tmp_path / "results"), "toy_divided", cases.nothing, RayExecutor(address=cluster.address, threads=1, **asked))


def test_without_a_number_there_is_a_worker_on_each_node(cluster, tmp_path):
    executor = RayExecutor(0, cluster.address)
    store = Store(tmp_path / "results")
    info = sealed(store, "toy_divided", cases.nothing, executor)
    assert executor.workers in (2, 3) and squares(store, info) == [(i, i * i) for i in range(6)]


def test_an_address_where_nobody_listens_is_refused_at_once(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(UserError, match=f"^the address must be of a running Ray cluster, got {address} "):
            sealed(Store(tmp_path / "results"), "toy_divided", cases.nothing, RayExecutor(1, address))
    with pytest.raises(UserError, match="^the address must be auto, host:port or ray://host:port, got 'somewhere'"):
        sealed(Store(tmp_path / "results"), "toy_divided", cases.nothing, RayExecutor(1, "somewhere"))


def test_a_wrong_token_is_refused_in_a_sentence(cluster, tmp_path):
    code = (
        "import sys\nfrom analysis.executors.cluster import _ray, connect\nfrom analysis.spec import UserError\n"
        f"try:\n    connect(_ray(), '{cluster.address}')\nexcept UserError as error:\n    sys.exit(str(error))\n"
    )
    environment = dict(os.environ) | {"RAY_AUTH_TOKEN": "0" * 64}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("the address must be of a running Ray cluster whose token this process has, got")


def test_cores_of_nodes_are_shared_by_the_workers_on_them(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    nodes = [{"CPU": 8.0}, {"CPU": 4.0}]
    assert [_threads_each(nodes, n) for n in (1, 2, 3, 4, 6, 12, 20)] == [8, 4, 4, 2, 2, 1, 1]


def test_a_client_of_the_cluster_does_the_same(cluster, tmp_path):
    store = Store(tmp_path / "results")
    executor = RayExecutor(2, f"ray://{cluster.address.partition(':')[0]}:{CLIENT_PORT}", threads=1)
    info = sealed(store, "toy_divided", cases.nothing, executor, folder=str(tmp_path), die_at=2)
    assert squares(store, info) == [(i, i * i) for i in range(6)]
