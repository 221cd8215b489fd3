"""What stands side by side: the states of a model on a text, or two texts, or two models; and words about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.live import Arm, Played
from analysis.live.offered import offered
from analysis.live.played import AppliedStep
from analysis.quality.prompt_tables import CHANGED, DENSE
from figures.words import number, visible
from ui.playground.choices import Side
from ui.words import code, count, percent, plain


@dataclass(frozen=True)
class State:
    """One column of every comparison."""

    name: str
    """Foreign text where it names a model."""
    played: Played
    arm: Arm

    def piece(self, token: int) -> str:
        """The text of an id."""
        return self.played.pieces.get(token, f"<{token}>")


def states_of(asked: Sequence[Side], found: Sequence[Played]) -> list[State]:
    """The columns: two questions in their last state, else the dense model and, where something is taken away, the other."""
    if len(asked) > 1:
        return [State(side.name, played, played.now) for side, played in zip(asked, found, strict=True)]
    [played] = found
    both = [State(DENSE, played, played.dense)]
    return both if played.sparse is None else [*both, State(CHANGED, played, played.sparse)]


def same_text(states: Sequence[State]) -> bool:
    """Whether all read the same tokens, so that they can be compared token by token."""
    return len({state.played.tokens for state in states}) == 1


def glyphs(piece: str) -> str:
    """A piece of text with its spaces, line ends and tabs to be seen (text, no Markdown)."""
    return visible(piece).replace(" ", "␣") or "∅"


def about(side: Side, played: Played, *, named: bool = False) -> str:
    """What was read, and what was taken away, as Markdown; ``named``: with what it is called beside another."""
    read = plain(played.tokens[0]) if played.is_row else count(len(played.tokens), "token")
    first = f"{plain(side.name[:1].upper() + side.name[1:])}: " if named else ""
    lines = [f"{first}**{plain(played.label)}** · {read} · {played.seconds:.1f} s"]
    lines += [f"- {_applied(one)}" for one in played.applied]
    if side.play.without:
        lines.append("- without " + ", ".join(code(str(unit)) for unit in side.play.without))
    return "\n".join(lines)


def _applied(one: AppliedStep) -> str:
    removed = f"{percent(one.achieved)} of {one.denominator}"
    native = f", {one.native_unit} {number(one.native_value)}" if one.native_value is not None and one.native_unit else ""
    notes = "".join(f" {note}" for note in one.notes)
    return plain(f"{offered(one.slug).line} Removed: {removed}{native}.{notes}")


def change(played: Played) -> str | None:
    """How far the sparse answers are from the dense ones, as Markdown; None where nothing was taken away."""
    if played.sparse is None or played.kl is None:
        return None
    known = [(k, t) for t, k in enumerate(played.kl) if k is not None]
    if not known:
        return "The two states cannot be compared: the outputs are not finite."
    mean, (most, at) = sum(k for k, _ in known) / len(known), max(known)
    if most == 0:
        return "**Nothing changed**: every output is the same, bit for bit or up to a KL divergence of 0."
    what, unit = ("KL divergence from the dense model", " nats") if played.speaks else ("Relative error of the output", "")
    if played.is_row:
        return f"**{what}: {number(mean)}{unit}**{_stayed(played)}{_losses(played)}."
    where = f"most behind {code(glyphs(played.tokens[at]))} ({number(most)})"
    return f"**{what}: {number(mean)}{unit} in the mean** over {count(len(known), 'token')}, {where}{_stayed(played)}{_losses(played)}."


def _stayed(played: Played) -> str:
    """Whether the first choice is another now; empty where the model makes none."""
    if played.same is None:
        return ""
    if played.is_row:
        return "; the first choice stayed" if played.same[0] else "; the first choice is another"
    return f"; the first choice stayed on {sum(played.same)} of {len(played.same)}"


def _losses(played: Played) -> str:
    """Before and after; empty where nothing is scored."""
    before, after = played.dense.mean_loss, played.now.mean_loss
    if before is None or after is None:
        return ""
    if played.is_row:
        return f". Loss on the row: {number(before)} → **{number(after)}**"
    n = count(played.dense.n_scored, "token")
    return f". Loss on the prompt: {number(before)} → **{number(after)}** nats per token ({n} scored)"


def difference(states: Sequence[State]) -> str | None:
    """Losses of two questions and their difference, as Markdown; None where there is none to tell."""
    losses = [(state.name, state.arm.mean_loss, state.arm.n_scored) for state in states]
    if len(losses) != 2 or any(loss is None for _, loss, _ in losses):
        return None
    (one, first, n_one), (other, second, n_other) = losses
    assert first is not None and second is not None
    per, scored = ("", "") if states[0].played.is_row else (" in nats per token", f", {count(n_one, 'token')} scored")
    words = f"Loss{per}: {number(first)} ({plain(one)}{scored}) and {number(second)} ({plain(other)}"
    words += ("" if states[0].played.is_row else f", {n_other:,}") + f"); difference **{second - first:+.4g}**"
    if len({state.played.tokens for state in states}) > 1:
        words += ". The texts differ, so these are losses on different tokens"
    return words + "."
