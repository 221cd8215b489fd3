"""What does the model make of a prompt, token by token, and what changes when something is taken away?

1. Read the prompt with the model as it is: loss, next tokens, sparsity layer by layer.
2. Hold interventions at their levels and units at zero, calibrated on the data, and read it again; every weight is back afterwards.
3. Rows by token, by place and by state.

It is the playground's question as a job (`analysis.live.player` answers both): longer prompts, and interventions that take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.live.offered import CALIBRATION_TOKENS, CALIBRATION_WINDOW, UNFIT, offered
from analysis.live.played import Arm, Played
from analysis.live.playing import FIRST_TEXT, HOTTEST, JOB_TOKENS, Play, Step, units_of
from analysis.quality.prompt_figures import draw_attention, draw_change, draw_neurons, draw_surprise
from analysis.quality.prompt_tables import CHANGED, DENSE, TABLES
from analysis.spec import Analysis, Figure, Source, UserError, setting

_BYTES = 2 * 2**30


@dataclass(frozen=True, kw_only=True)
class PromptEffectConfig:
    """Settings of `prompt_effect`."""

    prompt: str = setting(
        FIRST_TEXT, help=f"Text to read as it stands, at most {JOB_TOKENS:,} tokens with those it is continued by", lines=True
    )
    interventions: str = setting("", help="What is taken away, with levels and commas: ffn-topk:0.5, attention-topk:0.9; may be empty")
    without: str = setting("", help="Units taken away, with commas: neuron 5:17, head 3:1; may be empty")
    unit: str = setting("", help="Neuron or head whose activity is written down token by token; may be empty")
    new: int = setting(0, help="Tokens by which each state continues the prompt; it is read anew for each", unit="tokens", ge=0, le=512)
    temperature: float = setting(0.0, help="Of what is written; 0 takes the most probable token each time", ge=0.0, le=HOTTEST)
    seed: int = setting(0, help="Seed of the choice of windows to calibrate on, and of what is written", ge=0, le=2**31 - 1)
    n_tokens: int = setting(CALIBRATION_TOKENS, help="Tokens of the data to calibrate interventions on", unit="tokens", ge=2, le=10**6)
    window: int = setting(CALIBRATION_WINDOW, help="Length of the windows to calibrate on", unit="tokens", ge=2, le=2048)
    active: float = setting(0.01, help="Relative contribution above which a neuron is active, where it can be told", ge=1e-9, le=1.0)
    magnitude: float = setting(0.0625, help="Magnitude above which it is, elsewhere", ge=0.0, le=1e6)


def needs(subject: Any) -> str | None:
    """A model that reads text."""
    if subject.tokenizer is None:
        return f"{subject.label} reads no text, and prompt_effect is about a prompt; ask the playground about a row of its data."
    if subject.data is None:
        return f"{subject.label} has no inputs, and prompt_effect calibrates interventions on them; give a text with --data."
    return None


def memory(settings: Any, facts: Mapping[str, Any]) -> int:
    """Where something is taken away a copy of the weights; outputs and attention of the prompt."""
    return (4 * int(facts.get("n_parameters") or 0) if settings.interventions else 0) + _BYTES


def play_of(config: PromptEffectConfig) -> Play:
    """The question to the player. Raises `UserError` for what is mistyped or cannot be asked."""
    unit = units_of(config.unit)
    if len(unit) > 1:
        raise UserError(f"unit must name one neuron or head, got {len(unit)}; leave some out.")
    units = units_of(config.without)
    if any(one.kind == "latent" for one in (*unit, *units)):
        raise UserError("units must be neurons and heads in prompt_effect, got a latent; ask the playground about latents.")
    steps = steps_of(config.interventions)
    return Play(
        config.prompt, steps, units, unit[0] if unit else None, config.new, config.temperature, config.seed, lens=False,
        active=config.active, magnitude=config.magnitude,
    )  # fmt: skip


def steps_of(text: str) -> tuple[Step, ...]:
    """Interventions with their levels, as they are typed: ``ffn-topk:0.5, relu``; without a level all of it."""
    found: list[Step] = []
    for part in filter(None, (one.strip() for one in text.split(","))):
        slug, _, level = (one.strip() for one in part.partition(":"))
        try:
            share = float(level or 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UserError(f"the level of {slug} must be a share from 0 to 1, got {level!r}; write for example {slug}:0.5.")
        if offered(slug).slug in UNFIT:
            raise UserError(f"interventions must be ones that act on a prompt, got {slug}: {offered(slug).not_here}; choose another.")
        found.append(Step(slug, share))
    if len({step.slug for step in found}) < len(found):
        raise UserError(f"interventions must differ, got {text!r}; set one level for each.")
    return tuple(found)


def typed(play: Play) -> dict[str, str]:
    """The settings that ask the same, as a form takes them; without latents, which only the playground has."""
    units = [str(one) for one in play.without if one.kind != "latent"]
    found = {
        "prompt": play.text,
        "interventions": ", ".join(f"{step.slug}:{step.level:g}" for step in play.steps),
        "without": ", ".join(units),
        "unit": "" if play.colour is None or play.colour.kind == "latent" else str(play.colour),
        "new": str(play.new) if play.new else "",
        "temperature": f"{play.temperature:g}" if play.temperature else "",
        "seed": str(play.seed) if play.seed else "",
    }
    return {name: value for name, value in found.items() if value}


def run(config: PromptEffectConfig, inputs: Mapping[str, Any], work: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of all tables, in one unit."""
    from analysis.live.player import Player
    from analysis.live.reader import Reader

    subject, play = inputs["model"], play_of(config)
    for _ in work.units(["prompt"], what="reading the prompt"):
        player = Player(Reader(subject, most_tokens=JOB_TOKENS), most_tokens=JOB_TOKENS, calibration=subject.data)
        played = Played.from_json(player.answer(play, _progress(subject.model, play, config, work.report)))
        arms = {DENSE: played.dense} | ({} if played.sparse is None else {CHANGED: played.sparse})
        work.facts |= _facts(played, play)
        yield "prompt_tokens", _token_rows(played)
        yield "prompt_layers", _layer_rows(arms)
        yield "prompt_states", _state_rows(played, arms)
        if played.applied:
            yield "prompt_steps", _step_rows(played)


def _progress(model: Any, play: Play, config: PromptEffectConfig, report: Callable[[float], None]) -> Callable[[], None]:
    """What is called before each module: reports the share of calls, out of about as many as the passes will have."""
    states = 2 if play.changes else 1
    calibrating = len(play.steps) * max(1, config.n_tokens // CALIBRATION_TOKENS * 2)
    expected = sum(1 for _ in model.modules()) * (states * (1 + play.new) + calibrating)
    n = 0

    def check() -> None:
        nonlocal n
        n += 1
        if n % max(1, expected // 100) == 0:
            report(min(0.99, n / expected))

    return check


def _facts(played: Played, play: Play) -> dict[str, Any]:
    """What figures and captions say of the run."""
    return {
        "data_role": "Calibration data",
        "n_prompt_tokens": len(played.tokens),
        "n_scored": played.dense.n_scored,
        "speaks": played.speaks,
        "taken_away": [f"{step.slug} at {step.level:g}" for step in play.steps] + [f"without {unit}" for unit in play.without],
        "interventions": [step.slug for step in play.steps],
    }


def _token_rows(played: Played) -> dict[str, Any]:
    n, dense, changed = len(played.tokens), played.dense, played.sparse
    first, second = _first(played, dense), _first(played, changed)
    return {
        "position": range(n),
        "token_id": played.ids,
        "token": played.tokens,
        "special": played.special,
        "loss": dense.loss or [None] * n,
        "loss_changed": (changed.loss if changed else None) or [None] * n,
        "change": played.kl or [None] * n,
        "next_token": [one and one[0] for one in first],
        "next_share": [one and min(1.0, one[1]) for one in first],
        "next_token_changed": [one and one[0] for one in second],
        "next_share_changed": [one and min(1.0, one[1]) for one in second],
        "unit": dense.values or [None] * n,
        "unit_changed": (changed.values if changed else None) or [None] * n,
    }


def _first(played: Played, arm: Arm | None) -> list[tuple[str, float] | None]:
    """The most probable next token at each token, in words, with its probability."""
    if arm is None or arm.next is None:
        return [None] * len(played.tokens)
    return [(played.pieces[row[0][0]], row[0][1]) if row else None for row in arm.next]


def _layer_rows(arms: Mapping[str, Arm]) -> dict[str, Any]:
    rows = []
    for state, arm in arms.items():
        kinds = [(one, True) for one in arm.neurons] + [(one, False) for one in arm.attention]
        for place, ((layer, name, share), neurons) in enumerate(kinds):
            rows.append((state, place, layer, name, share if neurons else None, None if neurons else share))
    names = ("state", "place", "layer", "hook_name", "active_neurons", "keys_90")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _state_rows(played: Played, arms: Mapping[str, Arm]) -> dict[str, Any]:
    known = [one for one in played.kl or () if one is not None]
    changes = {DENSE: None, CHANGED: sum(known) / len(known) if known else None}
    texts = [arm.text for arm in arms.values()]
    return {
        "state": list(arms),
        "n_tokens": [len(played.tokens)] * len(arms),
        "n_scored": [arm.n_scored for arm in arms.values()],
        "loss": [arm.mean_loss for arm in arms.values()],
        "change": [changes[state] for state in arms],
        "continued": [None if text is None else "".join(played.pieces[i] for i in text.ids) for text in texts],
        "ended": [None if text is None else text.ended for text in texts],
    }


def _step_rows(played: Played) -> dict[str, Any]:
    names = ("level", "achieved", "denominator", "native_value", "native_unit")
    rows = played.applied
    return {
        "step": range(len(rows)),
        "intervention": [one.slug for one in rows],
        **{name: [getattr(one, name) for one in rows] for name in names},
        "notes": [list(one.notes) for one in rows],
    }


PROMPT_EFFECT = Analysis(
    slug="prompt_effect",
    title="A prompt, token by token",
    question="What does the model make of a prompt, token by token, and what changes when something is taken away?",
    version=1,
    kind="causal",
    sources=(
        Source("Surprise, KL divergence and sparsity on one prompt", "docs/playground.md", "O"),
    ),
    config=PromptEffectConfig,
    tables=TABLES,
    run=run,
    figures=(
        Figure("change", "How far predictions are from the dense model's", "prompt_tokens", draw_change, ("position", "token", "change")),
        Figure("surprise", "Surprise of each token", "prompt_tokens", draw_surprise, ("position", "token", "loss", "loss_changed")),
        Figure("neurons", "Active neurons by layer", "prompt_layers", draw_neurons),
        Figure("attention", "Concentration of attention by layer", "prompt_layers", draw_attention),
    ),
    needs=needs,
    memory=memory,
)  # fmt: skip
