"""Settings: the config of an analysis, field by field, and the sentences that refuse what it does not allow."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


class UserError(Exception):
    """Something the user can put right. Its text is one sentence: what, why, what to do."""


class UnknownName(UserError):
    """A name nobody knows; the text lists the known ones."""


class BadConfig(UserError):
    """A setting outside its bounds or of the wrong type; the text names the field."""


def setting(
    default: Any,
    *,
    help: str,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    choices: Sequence[Any] | None = None,
    result: bool = True,
    lines: bool = False,
) -> Any:
    """A config field: default, one sentence of help, unit, closed bounds or choices.

    ``result=False`` marks a setting that changes speed but no number (a batch size): it is left out of the run key.
    ``lines``: a text that may have several lines, for which a form has a box.
    """
    meta = {
        "help": help,
        "unit": unit,
        "ge": ge,
        "le": le,
        "choices": tuple(choices) if choices else None,
        "result": result,
        "lines": lines,
    }
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Setting:
    """One field of a config as forms, flags and checks see it."""

    name: str
    type: type
    default: Any
    help: str
    unit: str
    ge: float | None
    le: float | None
    choices: tuple[Any, ...] | None
    result: bool
    lines: bool

    @property
    def range_words(self) -> str:
        """The constraint in words, as error messages and help print it."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        if self.ge is not None and self.le is not None:
            return f"between {_short(self.ge)} and {_short(self.le)}"
        if self.ge is not None:
            return f"at least {_short(self.ge)}"
        if self.le is not None:
            return f"at most {_short(self.le)}"
        return "yes or no" if self.type is bool else f"a {self.type.__name__}"

    def check(self, value: Any) -> None:
        """Raise `BadConfig` unless ``value`` has the right type and lies within the bounds."""
        right = isinstance(value, self.type) and (self.type is bool or not isinstance(value, bool))
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            right = True
        inside = (
            right
            and (self.choices is None or value in self.choices)
            and (self.ge is None or value >= self.ge)
            and (self.le is None or value <= self.le)
        )
        if not inside:
            raise BadConfig(f"{self.name} must be {self.range_words}, got {value!r}; give another value (the default is {self.default!r}).")

    def parse(self, text: str) -> Any:
        """The value that ``text`` (from a flag or a form) stands for, checked."""
        try:
            if self.type is bool:
                value: Any = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
            else:
                value = self.type(text)
        except (KeyError, ValueError) as error:
            raise BadConfig(
                f"{self.name} must be {self.range_words}, got {text!r}; give another value (the default is {self.default!r})."
            ) from error
        self.check(value)
        return value


def _short(bound: float) -> str:
    """A bound as people write it: ``131,072``, ``0.01``, ``1e-09``."""
    return f"{bound:,.12g}"


def settings_of(config: type) -> tuple[Setting, ...]:
    """The fields of a config dataclass, in order."""
    hints = typing.get_type_hints(config)
    found = []
    for f in dataclasses.fields(config):
        kind = hints[f.name]
        if isinstance(kind, types.UnionType) or typing.get_origin(kind) is not None:
            raise TypeError(f"{config.__name__}.{f.name}: a setting is an int, float, bool or str, not {kind}")
        found.append(Setting(f.name, kind, f.default, **f.metadata))
    return tuple(found)


def make_config(config: type, values: Mapping[str, Any]) -> Any:
    """A checked config from plain values; texts are parsed, unknown names refused with the known ones listed."""
    known = {s.name: s for s in settings_of(config)}
    made: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise BadConfig(f"{name} is not a setting of this analysis; the settings are {', '.join(known) or '(none)'}.")
        one = known[name]
        if isinstance(value, str) and one.type is not str:
            made[name] = one.parse(value)
        else:
            one.check(value)
            made[name] = one.type(value)
    return config(**made)
