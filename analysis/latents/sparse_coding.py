"""scikit-learn's dictionary learning beside a sparse autoencoder, in a process of its own, so that it can be given up after a while.

    found = sparse_coding(rows, shown, n_atoms=1024, n_active=32, steps=30, seed=0, seconds=120)

Objective: min 1/2 |X - U V|_F^2 + alpha |U|_1 with |V_k| <= 1, minibatches; then orthogonal matching pursuit with ``n_active`` atoms. Rows
are centred and scaled to a variance of 1 per element, so that alpha = 1, scikit-learn's default, means the same for every model.
Codes may be negative, unlike most autoencoders' latents. Source: METHODS D8.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BATCH = 256
_ROOT = Path(__file__).resolve().parents[2]


def sparse_coding(
    rows: np.ndarray, shown: np.ndarray, *, n_atoms: int, n_active: int, steps: int, seed: int, seconds: float
) -> np.ndarray | str:
    """Learn ``n_atoms`` from rows [n, d] in ``steps`` batches of 256; the reconstruction of other rows, shown [m, d], by ``n_active`` each.

    A sentence instead where it took longer than ``seconds``, or failed.
    """
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="sparse-coding-") as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npy"
        np.savez(given, rows=rows, shown=shown, numbers=np.array([n_atoms, n_active, steps, seed]))
        command = [sys.executable, "-m", "analysis.latents.sparse_coding", str(given), str(made)]
        try:
            subprocess.run(command, cwd=_ROOT, check=True, timeout=seconds, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            return f"dictionary learning took longer than {seconds:g} seconds; raise dictionary_seconds, or lower dictionary_size"
        except subprocess.CalledProcessError as error:
            last = (error.stderr or "").strip().rpartition("\n")[2]
            return f"dictionary learning failed: {last or f'exit {error.returncode}'}"
        return np.load(made)


def learn(rows: np.ndarray, shown: np.ndarray, n_atoms: int, n_active: int, steps: int, seed: int) -> np.ndarray:
    """What `sparse_coding` does in its process: the reconstruction of shown [m, d]."""
    import numpy as np
    from sklearn.decomposition import MiniBatchDictionaryLearning

    middle = rows.mean(0)
    scale = float(np.sqrt(((rows - middle) ** 2).mean())) or 1.0
    scaled = (rows - middle) / scale
    model = MiniBatchDictionaryLearning(
        n_components=n_atoms, batch_size=BATCH, fit_algorithm="cd", transform_algorithm="omp", transform_n_nonzero_coefs=n_active,
        random_state=seed,
    )  # fmt: skip
    random = np.random.default_rng(seed)
    for _ in range(steps):
        model.partial_fit(scaled[random.choice(len(scaled), min(BATCH, len(scaled)), replace=False)])
    codes = model.transform((shown - middle) / scale)
    return (codes @ model.components_) * scale + middle


if __name__ == "__main__":
    import numpy as np

    with np.load(sys.argv[1]) as given:
        n_atoms, n_active, steps, seed = (int(one) for one in given["numbers"])
        made = learn(given["rows"].astype(np.float64), given["shown"].astype(np.float64), n_atoms, n_active, steps, seed)
    np.save(sys.argv[2], made)
