"""The store as a data frame: one row a rollout."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from specs_eval.records import RunManifest
from specs_eval.store import RunStore, StoredRun

_HEAVY = ("nucleus_sizes", "entropies")


def load_runs(store: str | Path = "runs", *, complete_only: bool = False, per_position: bool = False) -> pd.DataFrame:
    """All rollouts of a store, one a row.

    Args:
        store: the store's folder.
        complete_only: leave out runs that are not finished.
        per_position: also load the columns ``nucleus_sizes`` and ``entropies`` (lists, one entry a position).

    Returns:
        A frame with the columns run_id, checkpoint, series, step (nullable integer), fingerprint, task, task_version,
        temperature and seed (nullable integer; both missing in imported runs that do not know them), backend,
        sample_id, rollout, response, answer, target, score (share in [0, 1], missing = failed), reason, rule,
        finish_reason, n_tokens, entropy (mean, nats), nucleus (mean size), group, category (JSON text), prompt_hash,
        and metric_<name> for each further metric. Ordered by run, sample and rollout.

    Raises:
        ConfigError: there is no store at this place.
        StoreError: a file of the store is damaged; the message names it.
    """
    frames = [_frame(run, per_position) for run in RunStore.open(store).runs() if run.complete or not complete_only]
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype="object") for name in (*_IDENTITY, "sample_id", "rollout", "score")})
    frame = pd.concat(frames, ignore_index=True)
    frame["step"] = frame["step"].astype("Int64")
    frame["seed"] = frame["seed"].astype("Int64")
    frame["temperature"] = pd.to_numeric(frame["temperature"])
    return frame


_IDENTITY = (
    "run_id",
    "checkpoint",
    "series",
    "step",
    "fingerprint",
    "task",
    "task_version",
    "temperature",
    "seed",
    "backend",
)


def _frame(run: StoredRun, per_position: bool) -> pd.DataFrame:
    table = run.table()
    if not per_position:
        table = table.drop_columns([name for name in _HEAVY if name in table.column_names])
    frame: pd.DataFrame = table.to_pandas()
    for position, (name, value) in enumerate(_identity(run.run_id, run.manifest).items()):
        frame.insert(position, name, value)
    return frame


def _identity(run_id: str, manifest: RunManifest) -> dict[str, str | int | float | None]:
    checkpoint = manifest.checkpoint
    values = (
        run_id,
        checkpoint.name,
        checkpoint.series,
        checkpoint.step,
        checkpoint.fingerprint,
        manifest.task,
        manifest.task_version,
        manifest.sampling.temperature,
        manifest.sampling.seed,
        manifest.backend,
    )
    return dict(zip(_IDENTITY, values, strict=True))
