"""lmms-eval's log files: where they are, which layout they have, and what they say about the run as a whole.

Layouts, as the writers of these versions leave them:

- before 0.3: one JSON a task, ``{"args": ..., "model_configs": ..., "logs": [a sample, ...]}``;
- 0.3: ``<date>_samples_<task>.jsonl`` with ``doc``, ``arguments``, ``prompt_hash``, and ``<date>_results.json``;
- 0.4 to 0.6: the same without ``doc`` and ``arguments``, and without ``resps`` where they equal ``filtered_resps``;
- 0.7: ``token_counts`` beside them, and one level of lists less.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specs_eval.errors import ConfigError
from specs_eval.importing.reading import Row, read_json, read_json_lines

_SAMPLES_NAME = re.compile(r"(?P<prefix>.+?)_samples_(?P<task>.+)\.jsonl")
_VERSION = re.compile(r"v?(\d+\.\d+(?:\.\d+)?)(?:@.*)?")
_MODEL_KEYS = ("peft", "delta", "pretrained", "model", "model_version", "model_name", "model_id", "path", "engine")
"""What lmms-eval takes a model's name from, in this order."""


@dataclass(frozen=True, slots=True)
class LmmsLog:
    """The samples of one task as logged, and what the results file beside them says."""

    path: Path
    task: str
    rows: tuple[Row, ...]
    version: str
    """lmms-eval's, as far as the log or its layout tells: ``0.7``."""
    model: str
    """Path or name of the model; empty: not known."""
    config: Mapping[str, Any]
    """The task's configuration; empty: not known."""
    higher_is_better: Mapping[str, bool | None]
    totals: Mapping[str, float]
    """lmms-eval's own total of each ``metric,filter``."""
    n_original: int | None
    """Documents that the task has."""
    n_effective: int | None
    """Documents that were evaluated."""

    @property
    def filters(self) -> tuple[str, ...]:
        """Names of the task's filters, in the order in which their rows stand."""
        listed = self.config.get("filter_list")
        found = (
            [entry.get("name") for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
        )
        return tuple(str(name) for name in found) or ("none",)


def is_samples_file(path: Path) -> bool:
    """Whether a JSON Lines file holds samples of lmms-eval: by its first line."""
    for _, row in read_json_lines(path):
        return "doc_id" in row and bool(row.keys() & {"resps", "filtered_resps"})
    return False


def find_samples_files(folder: Path) -> tuple[list[Path], int]:
    """The log files under a folder, sorted, and how many other JSON and CSV files were passed over."""
    files = sorted(path for path in folder.rglob("*.json*") if path.is_file() and path.suffix in (".json", ".jsonl"))
    chosen = [path for path in files if _SAMPLES_NAME.fullmatch(path.name) or _is_old(path)]
    skipped = [path for path in files if path not in set(chosen) and not path.name.endswith("results.json")]
    return chosen, len(skipped)


def samples_of_results(path: Path) -> list[Path]:
    """The samples files that were written with a results file.

    Raises:
        ConfigError: there are none: the log was written without samples.
    """
    prefix = path.name.removesuffix("_results.json")
    found = sorted(one for one in path.parent.iterdir() if _prefix(one) == prefix)
    if not found:
        raise ConfigError(
            f"{path} holds totals only, and no {prefix}_samples_*.jsonl lies beside it: run lmms-eval with --log_samples"
        )
    return found


def read_log(path: Path) -> LmmsLog:
    """Read a samples file with the results file beside it, or a JSON log of before 0.3.

    Raises:
        ConfigError: a file is broken (with its line), or holds no samples.
    """
    if path.suffix == ".json":
        return _read_old(path)
    rows = tuple(read_json_lines(path))
    _check_rows(rows, path)
    name = _SAMPLES_NAME.fullmatch(path.name)
    task = name["task"] if name else path.stem
    beside = [path.with_name(f"{name['prefix']}_results.json")] if name else []
    found = [one for one in (*beside, path.with_name("results.json")) if one.is_file()]
    results = _mapping(read_json(found[0])) if found else {}
    if found and task not in _mapping(results.get("results")):
        results = {}  # another run's
    return _log(path, task, rows, results, _layout(rows[0][1]))


def _read_old(path: Path) -> LmmsLog:
    whole = _mapping(read_json(path))
    logs = whole.get("logs")
    if not isinstance(logs, list) or not all(isinstance(one, dict) for one in logs):
        raise ConfigError(f"{path} is no log of lmms-eval: it has no list of samples under 'logs'")
    rows = tuple(enumerate(logs, 1))
    _check_rows(rows, path)
    config = _mapping(whole.get("model_configs"))
    task = str(config.get("task") or path.stem)
    facts = {"config": _mapping(whole.get("args")), "configs": {task: config}}
    return _log(path, task, rows, facts, "before-0.3")


def _log(path: Path, task: str, rows: tuple[Row, ...], results: Mapping[str, Any], layout: str) -> LmmsLog:
    config = _mapping(_mapping(results.get("configs")).get(task))
    totals = _mapping(_mapping(results.get("results")).get(task))
    counts = _mapping(_mapping(results.get("n-samples")).get(task))
    return LmmsLog(
        path=path,
        task=task,
        rows=rows,
        version=_version(results.get("lmms_eval_version")) or layout,
        model=_model(results),
        config=config,
        higher_is_better=_directions(_mapping(_mapping(results.get("higher_is_better")).get(task)), config),
        totals={key: float(value) for key, value in totals.items() if _is_number(value)},
        n_original=counts.get("original") if isinstance(counts.get("original"), int) else None,
        n_effective=counts.get("effective") if isinstance(counts.get("effective"), int) else None,
    )


def _check_rows(rows: Sequence[Row], path: Path) -> None:
    if not rows:
        raise ConfigError(f"{path} holds no samples")
    for line, row in rows:
        if not isinstance(row.get("doc_id"), int | str) or isinstance(row.get("doc_id"), bool):
            raise ConfigError(f"{path}:{line}: no doc_id; is it a samples file of lmms-eval?")


def _layout(row: Mapping[str, Any]) -> str:
    """The version that writes samples like this."""
    if "token_counts" in row:
        return "0.7"
    return "0.3" if "doc" in row or "prompt_hash" in row else "0.4-0.6"


def _version(written: object) -> str | None:
    """The number in ``lmms_eval_version``, which is often a branch and commit of the folder it ran in."""
    found = _VERSION.fullmatch(written) if isinstance(written, str) else None
    return found.group(1) if found else None


def _model(results: Mapping[str, Any]) -> str:
    arguments = _mapping(results.get("config")).get("model_args")
    if isinstance(arguments, str):
        pairs = dict(part.partition("=")[::2] for part in arguments.split(",") if "=" in part)
        arguments = {key.strip(): value.strip() for key, value in pairs.items()}
    for key in _MODEL_KEYS:
        found = _mapping(arguments).get(key)
        if isinstance(found, str) and found:
            return found
    name = results.get("model_name")
    return name if isinstance(name, str) else ""


def _directions(declared: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, bool | None]:
    metrics = config.get("metric_list")
    listed: Iterable[Any] = metrics if isinstance(metrics, list) else ()
    found = {str(one.get("metric")): one.get("higher_is_better") for one in listed if isinstance(one, Mapping)}
    found |= {str(key): value for key, value in declared.items()}
    return {key: value if isinstance(value, bool) else None for key, value in found.items()}


def _is_old(path: Path) -> bool:
    if path.suffix != ".json" or path.name.endswith("results.json"):
        return False
    with path.open("rb") as stream:
        start = stream.read(4096)
    if b'"args"' not in start:
        return False
    return isinstance(_mapping(read_json(path)).get("logs"), list)


def _prefix(path: Path) -> str | None:
    found = _SAMPLES_NAME.fullmatch(path.name)
    return found["prefix"] if found else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
