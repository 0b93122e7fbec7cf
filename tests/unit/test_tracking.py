"""Numbers to trackers: real TensorBoard files, stand-ins for the services."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from specs_eval.errors import ConfigError
from specs_eval.tracking import STEP, Trackers, TrackerSettings


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = Trackers(("tensorboard",), TrackerSettings(run="dpo", folder=tmp_path))
    trackers.log(20, {"mmmu/score": 0.5, "mmmu/undefined": None, "mmmu/nan": float("nan")})
    trackers.log(10, {"mmmu/score": 0.25})
    trackers.close()
    events = EventAccumulator(str(tmp_path / "dpo"))
    events.Reload()
    assert events.Tags()["scalars"] == ["mmmu/score"]
    assert [(event.step, event.value) for event in events.Scalars("mmmu/score")] == [(20, 0.5), (10, 0.25)]


class Calls:
    """A module, and the run that it makes; remembers what it was told."""

    def __init__(self, name: str) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.module = ModuleType(name)
        for method in ("init", "log", "finish", "define_metric"):
            setattr(self.module, method, self._method(method))

    def _method(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments, options))
            return self.module

        return call


def test_wandb_takes_steps_that_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls("wandb")
    monkeypatch.setitem(sys.modules, "wandb", calls.module)
    trackers = Trackers(("wandb", "wandb"), TrackerSettings("p", "dpo"))
    trackers.log(20, {"a": 1.0})
    trackers.log(10, {"a": 2.0, "b": None})
    trackers.close()
    assert calls.calls == [
        ("init", (), {"project": "p", "name": "dpo", "job_type": "evaluation"}),
        ("define_metric", (STEP,), {}),
        ("define_metric", ("*",), {"step_metric": STEP}),
        ("log", ({STEP: 20, "a": 1.0},), {}),
        ("log", ({STEP: 10, "a": 2.0},), {}),
        ("finish", (), {}),
    ]


def test_wandb_goes_on_with_a_run_of_a_known_id_and_its_refusal_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls("wandb")
    calls.module.Error = type("Error", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", calls.module)
    Trackers(("wandb",), TrackerSettings("p", "dpo", kind="training", run_id="abc"))
    told = {"project": "p", "name": "dpo", "job_type": "training", "id": "abc", "resume": "allow"}
    assert calls.calls[0] == ("init", (), told)

    def refuses(**options: Any) -> None:
        raise calls.module.Error("No API key configured.")  # type: ignore[attr-defined]

    monkeypatch.setattr(calls.module, "init", refuses)
    with pytest.raises(ConfigError, match=r"wandb refuses: No API key configured; log in, or set WANDB_MODE=offline"):
        Trackers(("wandb",), TrackerSettings())


def test_trackio(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls("trackio")
    monkeypatch.setitem(sys.modules, "trackio", calls.module)
    trackers = Trackers(("trackio",), TrackerSettings("p", "dpo"))
    trackers.log(20, {"a": 1.0})
    trackers.close()
    assert [(name, options) for name, _, options in calls.calls] == [
        ("init", {"project": "p", "name": "dpo"}),
        ("log", {"step": 20}),
        ("finish", {}),
    ]


@pytest.mark.parametrize(
    ("name", "module"),
    [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb"), ("trackio", "trackio")],
)
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        Trackers((name,), TrackerSettings())


def test_an_unknown_tracker_is_refused_before_any_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls("wandb")
    monkeypatch.setitem(sys.modules, "wandb", calls.module)
    with pytest.raises(ConfigError, match="did you mean 'tensorboard'"):
        Trackers(("wandb", "tensorbord"), TrackerSettings())
    assert calls.calls == []
