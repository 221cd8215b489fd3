"""The figures of `head_weights`: from stored rows to a spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figures.spec import Axis, FigureSpec, NothingToDraw, Series

_WRITES = ("promoted", "suppressed")


def draw_energy(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Layer by head: share of a head's strongest direction in all that it can move."""
    from analysis.attention.figures import heads_map

    first = rows[rows["direction"] == 0]
    if first.empty:
        raise NothingToDraw(f"every head of {provenance['model_label']} has a W_V W_O of zero, so there are no directions to show.")
    return heads_map(
        first,
        provenance,
        Axis("energy_share", "Strongest direction", unit="share of the head's energy", bounds=(0.0, 1.0)),
        "Share of a head's strongest direction",
        "Largest squared singular value of each head's W_V W_O over the sum of all of them, near 1 where a head moves one thing only: "
        f"{len(first):,} heads of {provenance['model_label']}.",
        ("singular_value",),
        ("Weights alone: what the tokens bring along each direction is not in it.",),
    )


def draw_tokens(rows: Any, provenance: Mapping[str, Any]) -> FigureSpec:
    """Tokens whose logits a head's strongest direction raises and lowers most: the only head of ``rows``, or the one of highest score."""
    written = rows[(rows["direction"] == 0) & rows["side"].isin(_WRITES)]
    if written.empty:
        raise NothingToDraw(f"no head of {provenance['model_label']} has a direction that writes, so there are no tokens to show.")
    best = written.loc[written["score"].idxmax()]
    here = (written[["layer", "hook_name", "turn", "head"]] == best[["layer", "hook_name", "turn", "head"]]).all(axis=1)
    shown = written[here].sort_values(["score", "token_id"], ascending=[False, True]).drop_duplicates("token_id").reset_index(drop=True)
    named = shown["token"].map(lambda piece: repr(piece)[1:-1] if isinstance(piece, str) else "")
    shown["shown"] = [f"{name} ({number})" for name, number in zip(named, shown["token_id"], strict=True)]
    head = f"{int(best['layer'])}:{int(best['head'])}"
    return FigureSpec(
        kind="bars",
        data=shown[["shown", "score", "side"]],
        x=Axis("shown", "Token (id)", scale="category"),
        y=Axis("score", "Effect on the logit", unit="logits per unit read"),
        series=Series("side", "Side", order=_WRITES),
        title=f"Tokens that head {head} promotes and suppresses",
        sentence=f"Strongest singular direction of W_V W_O of head {head} of {provenance['model_label']} through the final norm's gain and "
        f"the unembedding, singular value in it: the {len(shown):,} tokens of largest effect.",
        notes=("The final norm's scale and what later layers make of it are left out; for early layers this means little.",),
    )
