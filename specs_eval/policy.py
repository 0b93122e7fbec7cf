"""Policies: what must be true of a candidate checkpoint, as a small typed file that lives in git.

``specs-eval.toml``, or the table ``[tool.specs-eval]`` of pyproject.toml::

    alpha = 0.05            # chance to pass a candidate that breaks a bound
    beta = 0.05             # chance to fail a candidate that keeps them all
    undecided = "fail"      # or "warn", "pass"

    [[gates]]
    metric = "score"
    task = "mmmu[domain=Science]"
    max_drop = 0.01         # shares: 0.01 is one point

    [[gates]]
    metric = "gf"
    id = "formats_id"
    ood = "formats_ood"
    min = 0.60

docs/checks.md explains every key.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from specs_eval.errors import ConfigError
from specs_eval.verdicts import OnUndecided

POLICY_FILE = "specs-eval.toml"
PROJECT_FILE = "pyproject.toml"
PROJECT_TABLE = "tool.specs-eval"

BoundKind = Literal["max_drop", "max_rise", "min_gain", "min", "max"]
BOUND_KINDS: tuple[BoundKind, ...] = ("max_drop", "max_rise", "min_gain", "min", "max")

AT_K = ("pass", "unsolvable", "maj")
"""Metrics that are followed by ``@k``."""
WITHOUT_BOUNDS = ("rbf", "entropy", "distinct", "effective")
"""Metrics that are no share: compared by bootstrap, never bet on."""

ErrorLevel = Annotated[float, Field(gt=0, lt=0.5)]


class Gate(BaseModel):
    """One rule on one metric."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = ""
    """As shown; empty: made from the rule."""
    metric: str
    """``score``, a further metric of the task (``accuracy``, ``format``, ``lock_in``, ...), ``unscored``, ``wrong_mode``,
    ``pass@k``, ``unsolvable@k``, ``maj@k``, ``rbf``, ``entropy``, ``distinct``, ``effective``, or ``gf``."""
    task: str | None = None
    """Task or split that it is measured on (all metrics but gf)."""
    id: str | None = None
    """For gf: the in-distribution task or split."""
    ood: str | None = None
    """For gf: the out-of-distribution task or split."""
    base: str | None = None
    """For gf: the model that training started from."""
    gain: Literal["score", "difference", "normalized"] | None = None
    """For gf: the reading; default ``difference`` with a base, else ``score``."""
    gf_beta: Annotated[float, Field(gt=0, le=1e6)] = 2.0
    """For gf: OOD weighs gf_beta^2 times as much as ID."""
    of: str = "score"
    """For gf, pass@k, unsolvable@k, maj@k and wrong_mode: the metric that makes a rollout right."""
    threshold: float = 1.0
    """A rollout is right from this value of `of` on."""
    max_drop: Annotated[float, Field(ge=0)] | None = None
    """Candidate minus baseline is at least minus this."""
    max_rise: Annotated[float, Field(ge=0)] | None = None
    """Candidate minus baseline is at most this; for what should not grow, such as lock-in."""
    min_gain: float | None = None
    """Candidate minus baseline is at least this."""
    min: float | None = None
    """The candidate's own number is at least this."""
    max: float | None = None
    """The candidate's own number is at most this."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        bounds = [kind for kind in BOUND_KINDS if getattr(self, kind) is not None]
        if len(bounds) != 1:
            given = f"not {' and '.join(bounds)}" if bounds else "none is given"
            raise ValueError(f"a gate has exactly one bound of {', '.join(BOUND_KINDS)}; {given}")
        name, at, number = self.metric.partition("@")
        if at and (name not in AT_K or not re.fullmatch(r"[1-9]\d{0,4}", number)):
            raise ValueError(
                f"{self.metric!r}: only {', '.join(one + '@k' for one in AT_K)} take a k, a number from 1 on"
            )
        if not at and name in AT_K:
            raise ValueError(f"{self.metric!r} needs a k, such as {name}@8")
        self._check_tasks()
        return self

    def _check_tasks(self) -> None:
        if self.metric == "gf":
            if not (self.id and self.ood) or self.task:
                raise ValueError("a gate on gf names its tasks with id and ood, not task")
        elif not self.task:
            raise ValueError(f"a gate on {self.metric} names its task")
        elif unused := [key for key in ("id", "ood", "base", "gain") if getattr(self, key) is not None]:
            raise ValueError(f"{' and '.join(unused)} are for gates on gf")

    @property
    def kind(self) -> BoundKind:
        """Which bound the gate has."""
        return next(kind for kind in BOUND_KINDS if getattr(self, kind) is not None)

    @property
    def bound(self) -> float:
        """The bound as written."""
        value: float = getattr(self, self.kind)
        return value

    @property
    def on_change(self) -> bool:
        """Whether the rule is about candidate minus baseline, and not about the candidate alone."""
        return self.kind in ("max_drop", "max_rise", "min_gain")

    @property
    def title(self) -> str:
        """The name, or one made from the rule."""
        where = f"{self.id} / {self.ood}" if self.metric == "gf" else self.task
        return self.name or f"{self.metric} of {where}: {self.kind} {self.bound:g}"


class Policy(BaseModel):
    """All gates of a check, and its error levels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: ErrorLevel = 0.05
    """Chance that the check passes a candidate that breaks a bound."""
    beta: ErrorLevel = 0.05
    """Chance that the check fails a candidate that keeps all bounds."""
    undecided: OnUndecided = "fail"
    """What an undecided gate does to the exit code."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the order in which a sequential check asks, and of the bootstrap."""
    gates: Annotated[tuple[Gate, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        titles = [gate.title for gate in self.gates]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"two gates are called {twice[0]!r}; give them different names")
        return self


def load_policy(path: Path | None = None, *, start: Path | None = None) -> tuple[Policy, Path]:
    """The policy of a file, or of the nearest one at or above a folder.

    Args:
        path: ``specs-eval.toml`` or ``pyproject.toml``; None: look for one.
        start: where to look from; None: the current folder.

    Returns:
        The policy, and the file that it was read from.

    Raises:
        ConfigError: there is none, it cannot be read, or it says something without meaning; names file, line and choices.
    """
    found = path or find_policy(start or Path.cwd())
    if found is None:
        raise ConfigError(
            f"no policy: neither {POLICY_FILE} nor a [{PROJECT_TABLE}] table in {PROJECT_FILE}, here or above; name one with --policy"
        )
    try:
        text = found.read_text(encoding="utf-8")
        facts = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the policy {found}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{found}: not TOML: {error}") from error
    prefix = ""
    if found.name == PROJECT_FILE:
        prefix, facts = f"{PROJECT_TABLE}.", facts.get("tool", {}).get("specs-eval")
        if facts is None:
            raise ConfigError(f"{found} has no table [{PROJECT_TABLE}]; write one, or a file {POLICY_FILE}")
    try:
        return Policy.model_validate(facts), found
    except ValidationError as error:
        raise ConfigError(_complaint(found, text, prefix, error)) from error


def find_policy(start: Path) -> Path | None:
    """The nearest file with a policy, at or above a folder; None: there is none."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / POLICY_FILE).is_file():
            return folder / POLICY_FILE
        project = folder / PROJECT_FILE
        if project.is_file() and "specs-eval" in _tables(project):
            return project
    return None


def _tables(project: Path) -> dict[str, Any]:
    try:
        tool = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        # Somebody else's project file: if it is broken, their tools say so.
        return {}
    return tool if isinstance(tool, dict) else {}


def _complaint(path: Path, text: str, prefix: str, error: ValidationError) -> str:
    """What is wrong, line by line."""
    lines = []
    for one in error.errors(include_url=False):
        location = one["loc"]
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            model = Gate if "gates" in location else Policy
            message = f"unknown key; the keys are {', '.join(model.model_fields)}"
        where = ".".join(str(part) for part in location) or "the policy"
        lines.append(f"{path}:{_line(text, prefix, location)}: {where}: {message}")
    return "\n".join(lines)


def _line(text: str, prefix: str, location: tuple[int | str, ...]) -> int:
    """Line of a key of the policy: inside the gate that it belongs to, else the first one that fits."""
    lines = text.splitlines()
    first, end = 0, len(lines)
    if prefix:
        first = next((i for i, line in enumerate(lines) if line.strip().startswith(f"[{prefix[:-1]}")), 0)
    headers = [i for i, line in enumerate(lines) if line.replace(" ", "").startswith(f"[[{prefix}gates]]")]
    if len(location) > 1 and location[0] == "gates" and isinstance(location[1], int) and location[1] < len(headers):
        first = headers[location[1]]
        end = next((i for i, line in enumerate(lines) if i > first and line.strip().startswith("[")), len(lines))
    key = next((part for part in reversed(location) if isinstance(part, str)), "")
    pattern = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
    return 1 + next((i for i in range(first, end) if pattern.match(lines[i])), first)
