"""``specs_eval.check``: the gates as a function, for training loops and notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stored_runs import FakeRun, write_run

import specs_eval
from specs_eval.errors import ComparisonError, ConfigError
from specs_eval.policy import Gate, Policy

POLICY = Policy(gates=(Gate(metric="score", task="t", max_drop=0.05),))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for step, share in ((10, 0.7), (20, 0.72), (30, 0.5), (40, 0.66)):
        scores = (np.arange(400) < 400 * share).astype(float)[:, None]
        write_run(tmp_path / "runs", FakeRun("t", scores, f"dpo/checkpoint-{step}"))
    return tmp_path / "runs"


def test_a_policy_in_python_and_the_same_from_a_file(store: Path) -> None:
    answer = specs_eval.check(store, "dpo/10", "dpo/20", POLICY)
    assert answer.passed and answer.exit_code == 0
    Path("specs-eval.toml").write_text('[[gates]]\nmetric = "score"\ntask = "t"\nmax_drop = 0.05\n')
    for policy in (None, "specs-eval.toml", Path("specs-eval.toml")):
        again = specs_eval.check("runs", "dpo/10", "dpo/20", policy)
        assert again.verdicts == answer.verdicts
    assert not specs_eval.check(store, "dpo/10", "dpo/30").passed
    assert specs_eval.check(store, "dpo/10", "dpo/30").exit_code == 1


def test_what_undecided_means_for_passed(store: Path) -> None:
    undecided = specs_eval.check(store, "dpo/10", "dpo/40", POLICY)
    assert (undecided.passed, undecided.exit_code) == (False, 3)
    lenient = POLICY.model_copy(update={"undecided": "warn"})
    assert specs_eval.check(store, "dpo/10", "dpo/40", lenient).passed


def test_pinned_baselines(store: Path) -> None:
    from specs_eval.baselines import Pin, save_pin

    fingerprint = specs_eval.check(store, "dpo/10", "dpo/20", POLICY).baseline_fingerprint
    pin = Pin(checkpoint="dpo/checkpoint-10", fingerprint=fingerprint, saved="2025-01-01", tasks={}, scores={})
    save_pin(Path("pins.toml"), "main", pin)
    assert specs_eval.check(store, "main", "dpo/20", POLICY, "pins.toml").baseline == "dpo/checkpoint-10"
    with pytest.raises(ConfigError, match="'main' is not in the store"):
        specs_eval.check(store, "main", "dpo/20", POLICY)


def test_errors_are_those_of_the_command(store: Path) -> None:
    write_run(store, FakeRun("other", np.ones((5, 1)), "dpo/checkpoint-50"))
    with pytest.raises(ComparisonError, match="no run of task 't'"):
        specs_eval.check(store, "dpo/10", "dpo/50", POLICY)
    with pytest.raises(ConfigError, match="no policy"):
        specs_eval.check(store, "dpo/10", "dpo/20")
    with pytest.raises(AttributeError, match="no attribute 'cheque'"):
        _ = specs_eval.cheque


def test_asking_needs_no_pandas_and_no_torch(store: Path) -> None:
    code = (
        "import sys, specs_eval\nfrom specs_eval.policy import Gate, Policy\n"
        "policy = Policy(gates=(Gate(metric='score', task='t', max_drop=0.05),))\n"
        f"assert specs_eval.check({str(store)!r}, 'dpo/10', 'dpo/20', policy).passed\n"
        "print([name for name in ('torch', 'pandas', 'transformers', 'specs_eval.cli') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
