"""Where workers of a cluster go, of what a cluster says that it has."""

from __future__ import annotations

import pytest

from specs_eval.errors import ConfigError
from specs_eval.executors.placement import MAX_CPU_WORKERS, RaySettings, place_workers

GPUS, CPUS = {"CPU": 64.0, "GPU": 5.0}, {"CPU": 64.0}


@pytest.mark.parametrize(
    ("resources", "settings", "device", "expected"),
    [
        (GPUS, RaySettings(), None, (5, 1)),
        (GPUS, RaySettings(), "cuda", (5, 1)),
        (GPUS, RaySettings(gpus_per_worker=2), None, (2, 2)),
        (GPUS, RaySettings(n_workers=3), None, (3, 1)),
        (GPUS, RaySettings(), "cpu", (MAX_CPU_WORKERS, 0)),
        (CPUS, RaySettings(), None, (MAX_CPU_WORKERS, 0)),
        (CPUS, RaySettings(n_workers=40), None, (40, 0)),
        ({"CPU": 3.0}, RaySettings(), "cpu", (3, 0)),
    ],
)
def test_gpus_where_there_are_any(
    resources: dict[str, float], settings: RaySettings, device: str | None, expected: tuple[int, int]
) -> None:
    placement = place_workers(resources, settings, device)
    assert (placement.n_workers, placement.n_gpus_each) == expected
    fallen_back = resources is CPUS and device is None
    assert any("has no GPU" in note for note in placement.notes) == fallen_back


@pytest.mark.parametrize(
    ("resources", "settings", "device", "message"),
    [
        (CPUS, RaySettings(), "cuda", r"has 0 GPUs and a worker needs 1; to use its 64 CPUs say --device cpu"),
        (CPUS, RaySettings(gpus_per_worker=1), None, "has 0 GPUs and a worker needs 1"),
        (GPUS, RaySettings(gpus_per_worker=8), None, "has 5 GPUs and a worker needs 8"),
        (GPUS, RaySettings(), "cuda:1", "Ray gives each worker its GPU"),
        (GPUS, RaySettings(gpus_per_worker=1), "cpu", "leave one of them out"),
        ({}, RaySettings(), None, "has no room for a worker"),
    ],
)
def test_gpus_that_are_asked_for_are_never_replaced_by_cpus(
    resources: dict[str, float], settings: RaySettings, device: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        place_workers(resources, settings, device)


def test_more_workers_than_room_are_told() -> None:
    (note,) = place_workers(GPUS, RaySettings(n_workers=7), None).notes
    assert "room for 5 of 7 workers" in note
