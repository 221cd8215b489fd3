"""Queries to start from. Each reads the tables named with it and is offered where the store has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A query under a name."""

    name: str
    tables: tuple[str, ...]
    text: str


EXAMPLES = (
    Example(
        "Runs, newest first",
        (),
        """SELECT run, slug, model, data, started, seconds
FROM runs
ORDER BY started DESC""",
    ),
    Example(
        "Which analyses took how long",
        (),
        """SELECT slug, count(*) AS runs, sum(seconds) AS seconds, max(seconds) AS longest
FROM runs
GROUP BY slug
ORDER BY seconds DESC""",
    ),
    Example(
        "Silent and rare neurons by layer and model",
        ("layers",),
        """SELECT model, layer, sum(n_silent) / sum(n_neurons) AS silent, sum(n_rare) / sum(n_neurons) AS rare,
       sum(n_neurons) AS neurons, any_value(run) AS run
FROM layers
WHERE slug = 'neuron_activity'
GROUP BY model, layer
ORDER BY model, layer""",
    ),
    Example(
        "The neurons that are active least often",
        ("neurons",),
        """SELECT model, layer, neuron, density, density_high, n_tokens, out_norm, run
FROM neurons
WHERE n_active > 0
ORDER BY density
LIMIT 100""",
    ),
    Example(
        "Heads that need the fewest keys",
        ("heads",),
        """SELECT model, layer, head, keys, key_share, first_mass, local_mass, run
FROM heads
WHERE keys IS NOT NULL
ORDER BY key_share
LIMIT 100""",
    ),
    Example(
        "Near-zero weights by kind of matrix and layer",
        ("tensors",),
        """SELECT model, role, layer, sum(n_near_zero) / sum(n_weights) AS near_zero, sum(n_weights) AS weights
FROM tensors
WHERE layer IS NOT NULL AND n_matrices > 0
GROUP BY model, role, layer
ORDER BY model, role, layer""",
    ),
    Example(
        "Loss against share removed, all interventions of all runs",
        ("curve_points",),
        """SELECT model, method, scope, level, delta, low, high, unit, n, run
FROM curve_points
WHERE delta IS NOT NULL
ORDER BY model, method, scope, level""",
    ),
    Example(
        "Latents by how often they are active",
        ("latents",),
        """SELECT model, run, class, count(*) AS latents, avg(density) AS density
FROM latents
GROUP BY model, run, class
ORDER BY model, run, latents DESC""",
    ),
)
