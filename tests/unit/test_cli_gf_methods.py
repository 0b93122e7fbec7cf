"""``specs-eval gf`` over several methods and parts of tasks: the published panel, pairs, the best, final performance."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gf_stores import ID, OOD, facts_of, figure_points, gf, pair, published_store
from rich.console import Console
from stored_runs import FakeRun, write_run

from specs_eval.analysis.generalization import generalization_factor
from specs_eval.analysis.resampling import Resampling
from specs_eval.cli.gf_answer import Question, answer_gf
from specs_eval.cli.gf_final import FinalQuestion
from specs_eval.cli.gf_show import show

STYLES = ("tags", "json", "boxed")
CHECKPOINTS = ("dpo/checkpoint-5", "dpo/checkpoint-10", "sft/checkpoint-5", "sft/checkpoint-10")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods; the task ``styles`` asks each question in all formats."""
    root = tmp_path_factory.mktemp("template") / "runs"
    for number, checkpoint in enumerate(CHECKPOINTS):
        pair(root, checkpoint, 0.6 + 0.1 * number, 0.3 + 0.1 * number)
        write_run(root, styles_run(checkpoint, number))
    return root


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published figure as a store."""
    return published_store(tmp_path_factory.mktemp("published"))


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Path:
    """A copy to write to."""
    return Path(shutil.copytree(template, tmp_path / "runs"))


def styles_run(checkpoint: str, number: int, n: int = 10, **options: Any) -> FakeRun:
    ids = [f"q{i}/{style}" for i in range(n) for style in STYLES]
    categories = [{"format": style, "hard": "yes" if i % 2 else "no"} for i in range(n) for style in STYLES]
    right = [i < {"tags": 9, "json": 2 + number, "boxed": 5}[style] for i in range(n) for style in STYLES]
    groups = [f"q{i}" for i in range(n) for _ in STYLES]
    values = np.repeat(np.array(right, float)[:, None], 2, axis=1)
    return FakeRun("styles", values, checkpoint, ids, groups, categories=categories, **options)


def test_the_49_published_points_through_the_store(published: Path) -> None:
    points = figure_points()
    facts = facts_of(gf(published, "--json"))
    found = {(s["series"], p["step"]): 100 * p["gf"] for s in facts["series"] for p in s["points"]}
    assert len(found) == 49 and facts["gain"] == "score"
    for point in points:
        assert found[point["method"], int(point["step"])] == pytest.approx(float(point["gf"]), abs=0.4)


def test_area_best_and_differences_of_the_published_panel(published: Path) -> None:
    facts = facts_of(gf(published, "--json"))
    figure: dict[str, list[tuple[int, float]]] = {}
    for point in figure_points():
        figure.setdefault(point["method"], []).append((int(point["step"]), float(point["gf"])))
    best = {"dpo": 21, "dpo_sft": 20, "sft": 25}
    for series in facts["series"]:
        points = figure[series["series"]]
        assert series["best"]["step"] == best[series["series"]] == max(points, key=lambda one: one[1])[0]
        area = trapezoid(points, points[0][0], points[-1][0])
        assert 100 * series["area"]["value"] == pytest.approx(area, abs=0.4)
        assert (series["area"]["first_step"], series["area"]["last_step"]) == (points[0][0], points[-1][0])
    assert [(one["first"], one["second"]) for one in facts["differences"]] == [
        ("dpo", "dpo_sft"), ("dpo", "sft"), ("dpo_sft", "sft"),
    ]  # fmt: skip
    for one in facts["differences"]:
        ours, theirs = figure[one["first"]], figure[one["second"]]
        span = max(ours[0][0], theirs[0][0]), min(ours[-1][0], theirs[-1][0])
        assert (one["first_area"]["first_step"], one["first_area"]["last_step"]) == span
        assert 100 * one["area"]["value"] == pytest.approx(trapezoid(ours, *span) - trapezoid(theirs, *span), abs=0.6)
        common = sorted(dict(ours).keys() & dict(theirs).keys())
        assert [step["step"] for step in one["steps"]] == common
        assert one["only_first"] == sorted(dict(ours).keys() - dict(theirs).keys())
        for step in one["steps"]:
            gap = dict(ours)[step["step"]] - dict(theirs)[step["step"]]
            assert 100 * step["gf"]["value"] == pytest.approx(gap, abs=0.6)


def trapezoid(points: list[tuple[int, float]], first: int, last: int) -> float:
    """Mean height of the line through the points: the trapezoid rule over whole steps, on which all corners lie."""
    heights = np.interp(np.arange(first, last + 1), *zip(*points, strict=True))
    return float(sum((one + other) / 2 for one, other in itertools.pairwise(heights)) / (last - first))


def test_a_part_of_a_task_and_shortened_names(store: Path) -> None:
    facts = facts_of(gf(store, "--json", tasks=("styles[format = TAGS]", "styles[f=js|boxed]")))
    assert (facts["id_task"], facts["ood_task"]) == ("styles[format=tags]", "styles[format=json|boxed]")
    points = [point for series in facts["series"] for point in series["points"]]
    for number, point in enumerate(points):
        assert (point["id"]["n_samples"], point["ood"]["n_samples"], point["ood"]["n_clusters"]) == (10, 20, 10)
        assert point["id"]["value"] == pytest.approx(0.9) and point["ood"]["value"] == pytest.approx((7 + number) / 20)
        assert point["gf"] == pytest.approx(generalization_factor(0.9, (7 + number) / 20))
    shown = gf(store, tasks=("styles[format=tags]", "styles[format!=tags]")).output
    assert "ID styles[format=tags], OOD styles[format!=tags]" in shown


def test_a_part_against_another_task(store: Path) -> None:
    facts = facts_of(gf(store, "--json", tasks=(ID, "styles[hard=yes,format=boxed]")))
    assert facts["series"][0]["points"][0]["ood"]["n_samples"] == 5 and facts["id_task"] == ID


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (("styles[format=tags]", "styles[hard=yes]"), "share 5 samples (such as 'q1/tags')"),
        (("styles", "styles[format=json]"), "share 10 samples"),
        (("styles[format=json]", "styles[format = js]"), "are both styles[format=json]"),
        (("styles[form=yaml]", "styles[format=json]"), "it has: boxed, json, tags"),
        (("styles[style=json]", OOD), "styles has no dimension 'style'"),
        (("styles[format=json,format=boxed]", OOD), "no sample of styles meets all of"),
        (("styles[format", OOD), "write TASK or TASK[DIMENSION=VALUE]"),
    ],
)
def test_parts_that_make_no_question(store: Path, tasks: tuple[str, str], message: str) -> None:
    result = gf(store, tasks=tasks)
    assert result.exit_code == 2 and message in result.output and result.stdout == ""


def test_a_condition_means_the_same_in_every_run(store: Path) -> None:
    # Alone, "b" would be short for boxed in the other runs, and ambiguous here: what counts is all runs together.
    odd = styles_run("sft/checkpoint-20", 0)
    odd.categories = [{**one, "format": one["format"].replace("json", "bare")} for one in odd.categories or ()]
    write_run(store, odd)
    pair(store, "sft/checkpoint-20", 0.5, 0.5)
    result = gf(store, tasks=("styles[format=b]", OOD))
    assert result.exit_code == 2 and "has no format 'b'" in result.output
    result = gf(store, tasks=("styles[format=json]", "styles[format=tags]"))
    assert (
        result.exit_code == 2
        and "sft/checkpoint-20: no sample of styles meets all of styles[format=json]" in result.output
    )
    result = gf(store, tasks=("styles[format!=json]", "styles[format=json]"))
    assert result.exit_code == 3, result.output
    assert "do not agree on which samples are in styles[format!=json] (such as 'q0/json')" in result.output


def test_every_pair_of_up_to_four_series_and_one_against_all(store: Path) -> None:
    for name in ("a", "b"):
        pair(store, f"{name}/checkpoint-5", 0.9, 0.2)
    facts = facts_of(gf(store, "--json"))
    assert len(facts["series"]) == 4 and len(facts["differences"]) == 6
    pair(store, "c/checkpoint-5", 0.9, 0.2)
    facts = facts_of(gf(store, "--json"))
    assert (
        facts["differences"] == [] and "5 series make 10 pairs" in facts["notes"][0] and "--versus" in facts["notes"][0]
    )
    facts = facts_of(gf(store, "--json", "--versus", "sft"))
    assert [(one["first"], one["second"]) for one in facts["differences"]] == [
        (x, "sft") for x in ("a", "b", "c", "dpo")
    ]
    step = facts["differences"][-1]["steps"][0]
    assert (step["step"], step["first"], step["second"]) == (5, "dpo/checkpoint-5", "sft/checkpoint-5")
    assert step["id"]["value"] == pytest.approx(-0.2) and step["ood"]["excludes_zero"] in (True, False)
    assert 0 < step["gf"]["p_value"] <= 1
    assert facts["differences"][0]["only_second"] == [10]
    wrong = gf(store, "--versus", "sfd")
    assert wrong.exit_code == 2 and "did you mean sft" in wrong.output
    alone = gf(store, "--versus", "sft", "--series", "sft")
    assert alone.exit_code == 2 and "no other series" in alone.output


@pytest.mark.parametrize(("width", "color"), [(60, False), (80, True), (140, True)])
def test_any_terminal_width_shows_every_number(store: Path, width: int, color: bool) -> None:
    question = Question(
        store, ID, OOD, None, (), "score", None, 2.0, (), False, Resampling(200),
        final=FinalQuestion("styles,styles[format=json]"),
    )  # fmt: skip
    console = Console(width=width, force_terminal=color, color_system="standard" if color else None, record=True)
    with console.capture() as capture:
        show(answer_gf(question), console)
    text = " ".join(capture.get().split())
    assert "…" not in text and ("\x1b[" in text) is color
    for words in (
        "GF of all series",
        "dpo minus sft",
        "-20.0",
        "Area under GF",
        "against",
        "Best by GF: step 10",
        "resamples",
        "No line: 2 points",
        "excludes 0",
    ):
        assert words in text, words


def test_final_performance_and_its_line(store: Path) -> None:
    for number, name in enumerate(("grpo_a", "grpo_b")):
        pair(store, f"{name}/checkpoint-5", 0.5, 0.1 + 0.2 * number)
        write_run(store, styles_run(f"{name}/checkpoint-5", number))
    facts = facts_of(gf(store, "--json", "--final", "styles[format=json],styles[format=boxed]"))
    final = facts["final"]
    assert final["tasks"] == ["styles[format=json]", "styles[format=boxed]"] and final["at"] == "last"
    found = {point["series"]: (point["checkpoint"], point["final"]["value"]) for point in final["points"]}
    assert found["dpo"] == ("dpo/checkpoint-10", pytest.approx((0.3 + 0.5) / 2))
    assert found["sft"] == ("sft/checkpoint-10", pytest.approx((0.5 + 0.5) / 2)) and len(found) == 4
    x, y = [point["gf"] for point in final["points"]], [point["final"]["value"] for point in final["points"]]
    assert final["line"]["r_squared"] == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2) and final["line"]["n_points"] == 4
    assert all(run.count("--") for point in final["points"] for run in point["runs"])
    shown = gf(store, "--final", "styles").output
    assert (
        "over n = 4 series" in shown and "GF of the last checkpoint against final performance (styles, score)" in shown
    )


def test_final_performance_of_where_training_went_on(store: Path) -> None:
    for step in (100, 200):
        write_run(store, styles_run(f"dpo_grpo/checkpoint-{step}", 7))
    facts = facts_of(gf(store, "--json", "--final", "styles[format=json]", "--final-of", "dpo=dpo_grpo"))
    points = {point["series"]: point for point in facts["final"]["points"]}
    assert points["dpo"]["checkpoint"] == "dpo/checkpoint-10" and points["dpo"]["end"] == "dpo_grpo/checkpoint-200"
    assert points["dpo"]["final"]["value"] == pytest.approx(0.9) and points["sft"]["end"] == "sft/checkpoint-10"
    wrong = gf(store, "--final", "styles", "--final-of", "grpo")
    assert wrong.exit_code == 2 and "--final-of takes SERIES=SERIES" in wrong.output
    facts = facts_of(gf(store, "--json", "--final", "styles", "--final-of", "sft=nowhere"))
    assert "no checkpoint of nowhere has runs of styles" in " ".join(facts["notes"])


def test_the_best_checkpoint_can_stand_for_a_series(store: Path) -> None:
    pair(store, "dpo/checkpoint-20", 0.6, 0.1)
    facts = facts_of(gf(store, "--json", "--final", "styles", "--final-at", "best"))
    assert [point["checkpoint"] for point in facts["final"]["points"]] == ["dpo/checkpoint-10", "sft/checkpoint-10"]
    facts = facts_of(gf(store, "--json", "--final", "styles"))
    assert "dpo is not set against final performance: dpo/checkpoint-20 has no runs of styles" in facts["notes"]
    assert facts["final"]["line"]["reason"].startswith("1 point") and facts["final"]["line"]["slope"] is None


def test_final_performance_that_does_not_compare_is_refused(store: Path) -> None:
    write_run(store, styles_run("dpo_grpo/checkpoint-1", 7, temperature=0.0))
    result = gf(store, "--final", "styles", "--final-of", "dpo=dpo_grpo")
    assert result.exit_code == 3 and "the runs of styles differ in temperature (0.0 or 1.0)" in result.output
    result = gf(store, "--final", "mmmu")
    assert result.exit_code == 2 and "no run of task 'mmmu'" in result.output
    result = gf(store, "--final", "styles", "--final-metric", "style")
    assert result.exit_code == 2 and "it has: score" in result.output


def test_published_gf_against_final_performance(tmp_path: Path) -> None:
    published = {"sft": (69.2, 47.11), "dpo": (89.7, 47.63), "dpo_sft": (94.6, 48.22)}
    for method, (factor, final) in published.items():
        for task, value in ((ID, factor), (OOD, factor), ("average", final)):
            write_run(tmp_path, FakeRun(task, np.full((3, 1), value / 100), f"{method}/checkpoint-25"))
    line = facts_of(gf(tmp_path, "--json", "--final", "average"))["final"]["line"]
    assert line["r_squared"] == pytest.approx(0.864, abs=5e-4) and line["n_points"] == 3
    assert "R2 0.864 over n = 3 series" in gf(tmp_path, "--final", "average").output
