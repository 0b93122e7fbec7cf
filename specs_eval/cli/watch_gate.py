"""The gate of ``specs-eval watch``: each checkpoint held against one baseline and one policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from specs_eval.analysis.checks.answer import Answer, Question, answer_check, find_sides
from specs_eval.baselines import find_pin_file
from specs_eval.checkpoints import Checkpoint
from specs_eval.cli.check_missing import needed_tasks
from specs_eval.errors import ConfigError
from specs_eval.policy import load_policy
from specs_eval.task_names import canonical_task_name


class WatchGate:
    """A policy and a baseline, checked before anything is waited for."""

    def __init__(self, store: Path, policy_path: Path, baseline: str, tasks: Sequence[str]) -> None:
        """Read the policy, find the baseline.

        Raises:
            ConfigError: the policy asks about a task that is not evaluated, or there is no such baseline.
            ComparisonError: the store does not have the baseline.
        """
        policy, policy_file = load_policy(policy_path)
        wanted = {canonical_task_name(task) for task in needed_tasks(policy)["candidate"]}
        missing = sorted(wanted - {canonical_task_name(task) for task in tasks})
        if missing:
            raise ConfigError(f"{policy_file} asks about {', '.join(missing)}, which --tasks does not evaluate")
        pin_file = find_pin_file(Path.cwd())
        self._question = Question(store, policy, policy_file, baseline, baseline, pin_file)
        sides, _ = find_sides(replace(self._question, candidate=self._name_in_store(baseline)))
        self._baseline = sides.baseline

    def _name_in_store(self, baseline: str) -> str:
        """What finds the baseline among the runs, where it is pinned under a name of its own."""
        from specs_eval.baselines import load_pins

        pin = load_pins(self._question.pin_file).get(baseline)
        return baseline if pin is None else pin.fingerprint

    def answer(self, checkpoint: Checkpoint) -> Answer:
        """The verdicts on a checkpoint that was evaluated just now."""
        return answer_check(replace(self._question, candidate=checkpoint.fingerprint))
