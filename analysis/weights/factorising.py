"""The rows of `factorisations`: one matrix made of cheaper parts in four ways, at the same share of its parameters."""

from __future__ import annotations

from typing import Any

BLOCK, ATOMS = 16, 32
"""Rows of a block that is fitted as dense times sparse, and columns of its dense part."""
ROUNDS = 10


def factorisations(place: dict[str, Any], matrix: Any, spectrum: Any, share: float, rows: int, seed: int) -> dict[str, list[Any]]:
    """Rows for one finite matrix [o, i] and its spectrum; a method that cannot exist at this share has none."""
    from analysis.stats.spectrum import rank_at

    n_out, n_in = matrix.shape
    budget, rank = int(share * n_out * n_in), rank_at(n_out, n_in, share)
    made = [_low_rank(spectrum, rank), _sparse(matrix, budget)]
    if half := rank_at(n_out, n_in, share / 2):
        made.append(_both(matrix, half, budget - half * (n_out + n_in), seed))
    made += _dense_sparse(matrix, share, rows, seed)
    found: dict[str, list[Any]] = {}
    for one in made:
        for column, value in (place | {"parameter_share": share} | one).items():
            found.setdefault(column, []).append(value)
    return found


def _low_rank(spectrum: Any, rank: int) -> dict[str, Any]:
    from analysis.stats.spectrum import errors

    off, (n_out, n_in) = errors(spectrum), spectrum.shape
    return {
        "method": "low_rank",
        "rank": rank,
        "n_kept": None,
        "n_parameters": rank * (n_out + n_in),
        "index_bits": 0,
        "n_rows": n_out,
        "error": float(off[rank]) if rank < len(off) else None,
    }


def _sparse(matrix: Any, budget: int) -> dict[str, Any]:
    from analysis.stats.factoring import index_bits, keep_largest, relative_error

    return {
        "method": "sparse",
        "rank": None,
        "n_kept": budget,
        "n_parameters": budget,
        "index_bits": index_bits(matrix.numel(), budget),
        "n_rows": matrix.shape[0],
        "error": relative_error(matrix, keep_largest(matrix, budget)),
    }


def _both(matrix: Any, rank: int, n_kept: int, seed: int) -> dict[str, Any]:
    from analysis.stats.factoring import index_bits, sparse_plus_low_rank

    n_out, n_in = matrix.shape
    return {
        "method": "sparse_low_rank",
        "rank": rank,
        "n_kept": n_kept,
        "n_parameters": rank * (n_out + n_in) + n_kept,
        "index_bits": index_bits(matrix.numel(), n_kept),
        "n_rows": n_out,
        "error": sparse_plus_low_rank(matrix, rank, n_kept, seed=seed).error,
    }


def _dense_sparse(matrix: Any, share: float, rows: int, seed: int) -> list[dict[str, Any]]:
    """One row, or none where a block does not fit or the dense part alone exceeds the share."""
    from analysis.stats.factoring import dense_sparse, dense_sparse_sizes, index_bits

    n_out, n_in = matrix.shape
    per_column = dense_sparse_sizes(BLOCK, n_in, ATOMS, share)
    if n_out < BLOCK or per_column < 1:
        return []
    blocks = min(rows, n_out) // BLOCK
    measured = _spread(matrix, blocks)
    return [
        {
            "method": "dense_sparse",
            "rank": ATOMS,
            "n_kept": per_column * n_in * blocks,
            "n_parameters": (BLOCK * ATOMS + per_column * n_in) * blocks,
            "index_bits": index_bits(ATOMS, per_column) * n_in * blocks,
            "n_rows": BLOCK * blocks,
            "error": dense_sparse(measured, BLOCK, ATOMS, per_column, iterations=ROUNDS, seed=seed).error,
        }
    ]


def _spread(matrix: Any, blocks: int) -> Any:
    """So many blocks of rows, evenly spread over the matrix."""
    import torch

    last = matrix.shape[0] // BLOCK - 1
    chosen = [round(k * last / max(1, blocks - 1)) for k in range(blocks)]
    return torch.cat([matrix[b * BLOCK : (b + 1) * BLOCK] for b in chosen])
