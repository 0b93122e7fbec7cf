"""Frames to arrays: the same as reading the run itself, and clear about frames that are no run."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stored_runs import FakeRun, write_run

from specs_eval import load_runs
from specs_eval.analysis.frames import rollouts_of
from specs_eval.analysis.stored.reading import read_rollouts
from specs_eval.errors import ComparisonError, ConfigError


def test_a_frame_gives_what_the_run_gives(tmp_path: Path) -> None:
    scores = np.array([[1, 0], [np.nan, 1], [0, 0]], dtype=float)
    run = FakeRun(
        "t",
        scores,
        groups=["a", None, "a"],
        answers=[["x", "y"], [None, "x"], [None, None]],
        categories=[{"kind": "k"}, {}, {"kind": "l"}],
        metrics={"accuracy": 1 - scores},
        n_tokens=np.array([[3, 4], [5, 6], [7, 8]]),
        entropy=np.full((3, 2), 0.5),
    )
    stored = write_run(tmp_path, run)
    frame = load_runs(tmp_path)
    for metric in ("score", "accuracy"):
        one = rollouts_of(frame, metric)
        other = read_rollouts(stored, [metric], statistics=True, categories=True)[metric]
        for field in fields(one):
            mine, theirs = getattr(one, field.name), getattr(other, field.name)
            if isinstance(theirs, np.ndarray):
                np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
            else:
                assert mine == theirs, field.name


def test_a_frame_of_ones_own_needs_two_columns() -> None:
    frame = pd.DataFrame({"sample_id": ["a", "b", "a"], "exact_match": [1, 0, 0]})
    found = rollouts_of(frame, "exact_match")
    assert found.sample_ids == found.clusters == ("a", "b")
    assert found.by_sample().values.tolist() == [0.5, 0.0]
    with pytest.raises(ConfigError, match="its columns are: sample_id, exact_match"):
        rollouts_of(frame)
    with pytest.raises(ConfigError, match="no rows"):
        rollouts_of(frame[:0], "exact_match")


def test_rows_of_several_runs_are_refused(tmp_path: Path) -> None:
    for checkpoint in ("dpo/checkpoint-1", "dpo/checkpoint-2"):
        write_run(tmp_path, FakeRun("t", np.ones((2, 1)), checkpoint))
    with pytest.raises(ComparisonError, match="rows of 2 runs"):
        rollouts_of(load_runs(tmp_path))
