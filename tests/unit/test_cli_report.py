"""The report's numbers are those of the other commands; what is missing is named; the size budget holds."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from report_stores import ATTACKS, ID, OOD, hostile, two_methods
from stored_runs import FakeRun, write_run

from specs_eval.analysis.report.content import Measurement
from specs_eval.analysis.report.embedding import script_hash
from specs_eval.analysis.report.page import html_page, plotly_script
from specs_eval.analysis.report.samples import BrowserRollout, BrowserSample, Candidates, pack
from specs_eval.analysis.report.sections import document
from specs_eval.analysis.report.tidy import COLUMNS
from specs_eval.analysis.resampling import Resampling
from specs_eval.analysis.statistics import undefined
from specs_eval.analysis.stored.selection import CheckpointKey
from specs_eval.analysis.stuckness import Transition
from specs_eval.cli import main
from specs_eval.cli.chosen_runs import Choice
from specs_eval.cli.report_answer import Answer, Question, answer_report
from specs_eval.cli.report_pictures import Pictures
from specs_eval.cli.report_runs import format_pairs, guessed_base
from specs_eval.cli.report_samples import candidate_samples
from specs_eval.errors import StoreError

FEW = Resampling(200)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_methods(tmp_path_factory.mktemp("report") / "runs")


@pytest.fixture(scope="module")
def answer(store: Path) -> Answer:
    return answer_report(Question(store, resampling=FEW))


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["report", "--bootstrap", "200", *map(str, arguments)])


def command(*arguments: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def number(answer: Answer, quantity: str, task: str, checkpoint: str, k: int | None = None) -> Measurement:
    found = [
        one
        for one in answer.content.measurements
        if (one.quantity, one.task, one.checkpoint, one.k, one.dimension) == (quantity, task, checkpoint, k, "")
    ]
    assert len(found) == 1, (quantity, task, checkpoint, k)
    return found[0]


def test_gf_is_that_of_the_command(store: Path, answer: Answer) -> None:
    facts = command("gf", "--id", ID, "--ood", OOD, "--base", "base", "--store", store, "--bootstrap", "200")
    (pair,) = answer.content.pairs
    assert (pair.gain, pair.base) == ("difference", "base")
    assert json.loads(json.dumps([one.to_dict() for one in pair.series])) == facts["series"]
    last = facts["series"][0]["points"][-1]
    drawn = number(answer, "gf", f"{ID} / {OOD}", "dpo/checkpoint-20").estimate
    assert drawn.value == last["gf"] and drawn.interval is not None and drawn.interval.low == last["interval"]["low"]


def test_exploration_is_that_of_the_command(store: Path, answer: Answer) -> None:
    facts = command("explore", "--store", store, "--bootstrap", "200")
    runs = facts["runs"] if "runs" in facts else facts["explored"]
    assert len(runs) == 14
    for run in runs:
        for at in run["at_k"]:
            for quantity, field in (("pass@k", "pass_at_k"), ("unsolvable@k", "unsolvable"), ("maj@k", "majority")):
                ours = number(answer, quantity, run["task"], run["checkpoint"], at["k"]).estimate
                assert ours.value == at[field]["value"]
        assert number(answer, "rbf", run["task"], run["checkpoint"]).estimate.value == run["rbf"]["value"]


def test_stuckness_is_that_of_the_command(store: Path, answer: Answer) -> None:
    facts = command("stuck", "--base", "base", "--store", store)
    ours = {(one.task, one.series): one for one in answer.content.stuck}
    assert {(one["task"], one["series"]) for one in facts["series"]} == set(ours)
    for theirs in facts["series"]:
        series = ours[theirs["task"], theirs["series"]]
        assert [point.wrong_mode.value for point in series.points] == [
            p["wrong_mode"]["value"] for p in theirs["points"]
        ]
        assert [one.stuck_same for one in series.transitions] == [one["stuck_same"] for one in theirs["transitions"]]
    assert any(point.wrong_mode.value for series in ours.values() for point in series.points)


def test_changes_are_those_of_compare(store: Path, answer: Answer) -> None:
    facts = command("compare", "base", "dpo/checkpoint-20", "--store", store)
    theirs = {one["task"]: one for one in facts["tasks"]}
    ours = {one.task: one for one in answer.content.changes if one.series == "dpo" and one.metric == "score"}
    assert set(ours) == set(theirs) == {ID, OOD}
    for task, change in ours.items():
        assert change.difference.value == pytest.approx(theirs[task]["difference"]["value"])
        assert (change.checkpoint, change.against) == ("dpo 20", "base")
    assert ours[OOD].verdict == "improved"


def test_the_summary_says_what_the_numbers_say(answer: Answer) -> None:
    summary = document(answer.content).sections[0]
    said = {(one.topic, one.method): one.text for one in summary.findings}
    change = next(one for one in answer.content.changes if (one.task, one.metric, one.series) == (OOD, "score", "dpo"))
    assert f"+{100 * (change.difference.value or 0):.1f}" in said["Improved", "dpo"]
    assert "dpo 20, GF" in said["Best by GF", "dpo"]
    assert "dpo is ahead of sft" in said["Methods", "dpo"]
    assert "1 rollout of 3,360 without a score" in said["Unscored", ""], said
    assert [one.topic for one in summary.findings].index("Improved") == 0


def test_every_figure_has_its_numbers_as_a_table_and_a_sentence(answer: Answer) -> None:
    from specs_eval.analysis.report.page import all_figures

    figures = list(all_figures(document(answer.content).sections))
    assert len(figures) == len({figure.name for figure in figures}) > 12
    for figure in figures:
        assert figure.table.rows and figure.alt.endswith("."), figure.name
        assert len({len(row) for row in figure.table.rows} | {len(figure.table.headings)}) == 1
        json.dumps([figure.traces, figure.layout], allow_nan=False)


def test_colours_are_fixed_by_method(answer: Answer) -> None:
    from specs_eval.analysis.report.page import all_figures

    colours: dict[str, set[str]] = {}
    for figure in all_figures(document(answer.content).sections):
        for trace in figure.traces:
            if "legendgroup" in trace:
                colours.setdefault(trace["legendgroup"], set()).add(trace["line"]["color"])
    assert set(colours) == {"base", "dpo", "sft"}
    assert all(len(one) == 1 for one in colours.values()) and len({min(one) for one in colours.values()}) == 3


def test_defaults_find_pairs_and_base() -> None:
    assert format_pairs(["a", ID, OOD, "b_formats_id"]) == [(ID, OOD)]
    base, one, two = CheckpointKey("base", -1, "base"), CheckpointKey("dpo", 5, "dpo 5"), CheckpointKey("x", -1, "x")
    assert guessed_base([base, one]) == base and guessed_base([base, one, two]) == base
    assert guessed_base([one]) is None and guessed_base([base]) is None
    assert guessed_base([two, CheckpointKey("y", -1, "y")]) is None


def packed(page: str) -> list[dict[str, Any]]:
    payload = re.search(r'id="sample-data">([^<]*)</script>', page)
    assert payload is not None
    return [json.loads(line) for line in gzip.decompress(base64.b64decode(payload.group(1))).splitlines()]


def test_the_page_is_one_file_under_a_strict_policy(store: Path, tmp_path: Path) -> None:
    result = call("--store", store, "-o", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "r.html").read_text()
    assert len(page.encode()) < 8_000_000
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    code, pack_of_plotly, notice = plotly_script()
    assert policy is not None and len(scripts) == 2
    assert policy.group(1).count("sha256-") == 3
    assert all(script_hash(one).strip("'") in policy.group(1) for one in (*scripts, code))
    assert page.count(pack_of_plotly) == 1 and gzip.decompress(base64.b64decode(pack_of_plotly)).decode() == code
    assert page.count(f"<!-- {notice} -->") == 1 and "MIT license" in notice and "Copyright" in notice
    assert "default-src &#x27;none&#x27;" in policy.group(1) and "unsafe-eval" not in policy.group(1)
    own = page
    assert not re.search(r"(src|href)=\"(?!#)", own) and "@import" not in own and "url(" not in own
    for heading in (
        "Summary",
        "Scores",
        "Generalization",
        "pass@k",
        "Stuckness",
        "Categories",
        "Samples",
        "Provenance",
    ):
        assert f">{heading}</h2>" in page


@pytest.mark.parametrize("budget", [2.0, 2.3, 8.0])
def test_the_size_budget_decides_on_samples(answer: Answer, budget: float) -> None:
    page = html_page(document(answer.content), candidate_samples(answer, Pictures(), 0), int(budget * 1e6))
    lines = packed(page)
    n = sum("runs" in line for line in lines)
    assert len(page.encode()) <= budget * 1e6 or n == 0
    assert f"This page carries {n} of 120 samples" in page
    if budget == 8.0:
        assert n == 120


def test_telling_samples_come_first_and_a_random_share_is_mixed_in(answer: Answer) -> None:
    candidates = candidate_samples(answer, Pictures(wanted=False), 0)
    tags = [one.tags for one in candidates.samples]
    telling = sum(bool(one) for one in tags)
    first = tags[: telling // 2]
    assert telling > 20 and 0.7 < sum(map(bool, first)) / len(first) < 0.9
    assert any("failed" in one for one in tags[:20]), "the one failed rollout is among the first"
    assert candidates.totals["failed"] == 1 and candidates.totals["stuck"] > 0 and candidates.totals["flipped up"] > 0
    again = [one.sample_id for one in candidate_samples(answer, Pictures(wanted=False), 0).samples]
    other = [one.sample_id for one in candidate_samples(answer, Pictures(wanted=False), 1).samples]
    assert again == [one.sample_id for one in candidate_samples(answer, Pictures(wanted=False), 0).samples] != other


def test_packing_stops_at_the_budget_and_says_so() -> None:
    generator = np.random.default_rng(0)

    def sample(i: int) -> BrowserSample:
        text = "".join(chr(65 + int(c)) for c in generator.integers(0, 58, 900))
        rollout = BrowserRollout(text, None, None, "", "engine failed", "error", None)
        return BrowserSample("t", f"s{i}", {}, "?", "", ("failed",) if i % 2 else (), {"c": (rollout,)})

    samples = tuple(sample(i) for i in range(60))
    found = pack(Candidates(("c",), samples, totals={"all": 60, "failed": 30}, seed=3), 20_000)
    assert 5 < found.n_samples < 30 and len(found.payload) <= 20_000
    lines = gzip.decompress(base64.b64decode(found.payload)).splitlines()
    assert len(lines) == found.n_samples + 2
    assert f"carries {found.n_samples} of 60 samples" in found.notes[0] and "of 30 failed" in found.notes[0]
    assert "seed 3" in found.notes[0] and "--max-mb" in found.notes[0]
    assert pack(Candidates(("c",), samples), 0).n_samples == 0


def test_other_formats(store: Path, tmp_path: Path) -> None:
    for name in ("r.md", "r.json", "r.parquet"):
        result = call("--store", store, "-o", tmp_path / name)
        assert result.exit_code == 0 and name in result.stdout, result.output
    table = pq.read_table(tmp_path / "r.parquet")
    assert table.column_names == list(COLUMNS)
    facts = json.loads((tmp_path / "r.json").read_text())
    assert len(facts["numbers"]) == table.num_rows and facts["seed"] == 0 and facts["runs"][0]["run"]
    assert all(row["runs"] for row in facts["numbers"] if row["quantity"] in ("score", "gf", "pass@k"))
    assert all(row["reason"] for row in facts["numbers"] if row["value"] is None)
    text = (tmp_path / "r.md").read_text()
    assert "**Improved**" in text and "| dpo 20 |" in text and "### Generalization" in text and len(text) < 20_000


def test_thumbnails_come_from_the_task_and_only_for_the_same_image() -> None:
    from specs_eval.chat import images_of
    from specs_eval.cli.report_pictures import TaskPictures
    from specs_eval.tasks.registry import get_task

    sample = get_task("formats_id").samples()[0]
    digest = images_of(sample.chat)[0].digest
    shown = BrowserSample(ID, sample.sample_id, {}, "", "", (), {}, (digest,))
    source = TaskPictures(Pictures())
    source.prepare(ID, {sample.sample_id: (digest,)})
    found = source.find(shown)
    assert found[digest].startswith("data:image/webp;base64,UklGR") and source.problem == ""
    source.prepare(ID, {sample.sample_id: ("0" * 64,)})
    assert "no image with the digest" in source.problem and "--data-dir" in source.problem
    foreign = TaskPictures(Pictures())
    foreign.prepare("pope", {"1": ("a",)})
    assert "does not fetch" in foreign.problem
    assert TaskPictures(Pictures(wanted=False)).problem == "The report was made with --no-images."


def test_training_logs_beside_checkpoints_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "dpo"
    log: list[Any] = [{"step": s, "loss": 1 / s, "rewards/margins": float(s), "epoch": 1.0} for s in range(1, 9)]
    log += [
        {"step": 9, "loss": float("nan")},
        {"loss": 3.0},
        "junk",
        {"step": 10, "loss": True, "<b>": 1},
        {"step": 11, "<b>": 2},
    ]
    (folder / "checkpoint-8").mkdir(parents=True)
    (folder / "checkpoint-8" / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    write_run(tmp_path / "runs", FakeRun("mmmu", np.eye(4), "dpo/checkpoint-8"))
    found = answer_report(Question(tmp_path / "runs", resampling=FEW, training=(folder, tmp_path))).content
    assert [(one.series, one.quantity, len(one.steps)) for one in found.training] == [
        ("dpo", "loss", 8),
        ("dpo", "rewards/margins", 8),
        ("dpo", "<b>", 2),
    ]
    assert "no trainer_state.json" in found.notes[-1]
    assert "training" in [section.anchor for section in document(found).sections]
    (folder / "checkpoint-8" / "trainer_state.json").write_text("{not json")
    broken = answer_report(Question(tmp_path / "runs", resampling=FEW, training=(folder,))).content
    assert not broken.training and "cannot be read" in broken.notes[0]


def test_a_store_without_pairs_statistics_or_steps_gives_a_page(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", FakeRun("mmmu", np.eye(4)[:, :1], "solo"))
    result = call("--store", tmp_path / "runs", "-o", tmp_path / "r.html")
    assert result.exit_code == 0 and result.stderr.startswith("1 checkpoint, 1 run, "), result.output
    page = (tmp_path / "r.html").read_text()
    for said in ("no pair of an ID and an OOD task", "one rollout a sample", "no token statistics", "Name a base"):
        assert said in page


def test_incomplete_runs_are_named_and_shown_on_request(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", FakeRun("mmmu", np.eye(4), "x/checkpoint-1"))
    write_run(tmp_path / "runs", FakeRun("mmmu", np.eye(4)[:3], "x/checkpoint-2", complete=False))
    left = answer_report(Question(tmp_path / "runs", resampling=FEW)).content
    assert "x/checkpoint-2 on mmmu" in left.notes[0] and len(left.runs) == 1
    result = call("--store", tmp_path / "runs", "-o", tmp_path / "r.md", "--allow-incomplete")
    text = (tmp_path / "r.md").read_text()
    assert result.exit_code == 0 and "Not complete" in text and "All 28 rollouts in 2 runs" in text


def test_runs_that_do_not_compare_are_left_out_and_said(tmp_path: Path) -> None:
    for step, options in ((1, {}), (2, {}), (3, {"temperature": 0.0})):
        write_run(tmp_path / "runs", FakeRun("mmmu", np.eye(4), f"x/checkpoint-{step}", **options))
    write_run(tmp_path / "runs", FakeRun("mmmu", np.eye(4), "x/checkpoint-2", seed=7))
    content = answer_report(Question(tmp_path / "runs", resampling=FEW)).content
    assert [run.checkpoint for run in content.runs] == ["x/checkpoint-1", "x/checkpoint-2"]
    assert any("other sampling" in note and "--select" in note for note in content.notes)
    assert any("differ in seed" in note and "the latest is shown" in note for note in content.notes)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    root = hostile(tmp_path / "runs")
    for name in ("r.html", "r.md", "r.json", "r.parquet"):
        result = call("--store", root, "-o", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "\u202e" not in result.output
    page = (tmp_path / "r.html").read_text()
    body = page
    assert (
        "<img src=x" not in body and "<script>window" not in body and "\u202e" not in body and "onerror=window" in body
    )
    assert len(re.findall("<script", body)) == 5 == len(re.findall("</script", body))
    lines = packed(page)
    carried = [line for line in lines if "runs" in line]
    assert len(carried) == len(ATTACKS)
    longest = max(len(row[0]) for line in carried for rows in line["runs"].values() for row in rows)
    assert longest < 5_000, "a megabyte of text is cut"
    assert "\u202e" not in json.dumps(lines, ensure_ascii=False)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--id", ID), 2, "come in pairs"),
        (("--max-mb", "0"), 2, "--max-mb"),
        (("--base", "nobody"), 2, "it has: base, dpo/checkpoint-5"),
        (("--tasks", "nothing"), 2, "no run of task 'nothing'"),
        (("--series", "dpp"), 2, "did you mean dpo"),
        (("--select", "color=red"), 2, "FIELD one of"),
        (("--level", "95"), 2, "level must lie"),
        (("--output", "/nowhere/r.html"), 2, "there is no folder"),
    ],
)
def test_wrong_questions(store: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = call("--store", store, "-o", tmp_path / "r.html", *arguments)
    assert result.exit_code == code and message in result.output and "Traceback" not in result.output


def test_a_pair_without_gf_says_why_and_the_page_stands(store: Path, tmp_path: Path) -> None:
    result = call("--store", store, "-o", tmp_path / "r.html", "--id", ID, "--ood", "mmmu")
    assert result.exit_code == 0 and "no GF of" in result.stderr
    assert "no GF: the store has no run of task" in (tmp_path / "r.html").read_text()


def test_parts_of_tasks_make_pairs(store: Path) -> None:
    pairs = ((f"{OOD}[format=json]", f"{OOD}[format=boxed]"), (ID, OOD))
    content = answer_report(Question(store, pairs=pairs, resampling=FEW)).content
    assert [pair.problem for pair in content.pairs] == [None, None]
    assert content.pairs[0].id_task == f"{OOD}[format=json]"


def test_one_series_keeps_its_base(store: Path) -> None:
    content = answer_report(Question(store, choice=Choice(("sft",)), resampling=FEW)).content
    assert content.methods == ("base", "sft") and content.base == "base"


def test_figures_for_a_paper(answer: Answer, tmp_path: Path) -> None:
    from specs_eval.analysis.report.images import check_exporter, export_figures, paper_figure
    from specs_eval.analysis.report.page import all_figures
    from specs_eval.errors import ConfigError

    try:
        check_exporter()
    except ConfigError as error:
        pytest.skip(str(error))
    whole = document(answer.content)
    section = next(one for one in whole.sections if one.anchor == "gf")
    wanted = replace(whole, sections=(section,))
    for kind, start in (("svg", b"<svg"), ("png", b"\x89PNG")):
        files = export_figures(wanted, tmp_path / kind, kind)
        assert [file.name for file in files] == [f"gf-0-{name}.{kind}" for name in ("id", "ood", "gf")]
        assert all(file.read_bytes().startswith(start) for file in files)
    drawn = (tmp_path / "svg" / "gf-0-ood.svg").read_text()
    assert "OOD: easyvqa_formats_ood" in drawn and ">dpo<" in drawn, "title and legend stand inside"
    for figure in all_figures(whole.sections):
        assert paper_figure(figure)["layout"]["title"]["text"]


def test_without_kaleido_or_a_browser_export_says_what_to_install(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "kaleido" else find_spec(name))
    result = call("--store", store, "--format", "svg", "-o", tmp_path / "figures")
    assert result.exit_code == 2 and "pip install 'specs-eval[figures]'" in result.output
    monkeypatch.undo()
    chromium = pytest.importorskip("choreographer.browsers.chromium")
    monkeypatch.setattr(chromium.Chromium, "find_browser", classmethod(lambda cls, *, skip_local: None))
    result = call("--store", store, "--format", "png", "-o", tmp_path / "figures")
    assert result.exit_code == 2 and "needs Chrome or Chromium" in result.output and not (tmp_path / "figures").exists()


def contrast(one: str, other: str) -> float:
    """Contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_texts_and_curves_stand_out_on_light_and_dark(answer: Answer) -> None:
    from specs_eval.analysis.report.page import _asset
    from specs_eval.analysis.report.palette import styles

    css = _asset("page.css")
    grounds = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r"\{([^{}]*--paper[^}]*)\}", css)
    ]
    grounds = [one for one in grounds if len(one) > 7]
    assert len(grounds) == 3, "light, dark by preference, dark by choice"
    assert grounds[1] == grounds[2]
    for colours in grounds[:2]:
        for name in ("ink", "soft", "link", "good", "bad", "open"):
            assert contrast(colours[name], colours["paper"]) >= 4.5, (name, colours)
        for style in list(styles(["base", *"abcd"], "base").values()):
            assert contrast(style.colour, colours["paper"]) >= 2.8, style


DEFICIENCIES = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "deuteranopia": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "protanopia": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "tritanopia": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}
"""How linear RGB is seen, after Machado, Oliveira and Fernandes 2009, severity 1."""


def seen(colour: str, deficiency: str) -> np.ndarray:
    """A colour in CIELAB as somebody sees it."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / np.array([0.9505, 1, 1.089])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def test_bars_of_stuck_samples_have_no_colour_of_a_method() -> None:
    from specs_eval.analysis.report.palette import FREE_COLOUR, STUCK_COLOUR, styles

    methods = {style.colour for style in styles(["base", *"abcdef"], "base").values()}
    assert len(methods) == 7
    for deficiency in DEFICIENCIES:
        pairs = [(STUCK_COLOUR, FREE_COLOUR), *itertools.product((STUCK_COLOUR, FREE_COLOUR), methods)]
        for one, other in pairs:
            assert np.linalg.norm(seen(one, deficiency) - seen(other, deficiency)) > 14, (deficiency, one, other)
    for colour, paper in itertools.product((STUCK_COLOUR, FREE_COLOUR), ("#ffffff", "#16181a")):
        assert contrast(colour, paper) >= 2.8


def test_bars_of_stuck_samples_count_in_whole_numbers_without_a_sign() -> None:
    from specs_eval.analysis.report.maps import flow_figure

    def flow(same: int, solved: int) -> dict[str, Any]:
        one = Transition("a", "b", 1, 2, same, 0, solved, 0, 0, 5, 0, undefined("not asked"))
        axis = flow_figure("flow", "flow", [one]).layout["yaxis"]
        return dict(zip(axis["tickvals"], axis["ticktext"], strict=True))

    assert flow(1, 0) == {0: "0", 1: "1"}
    assert flow(0, 0) == {0: "0"}
    assert flow(4, 2) == {-2: "2", -1: "1", 0: "0", 1: "1", 2: "2", 3: "3", 4: "4"}
    assert flow(2_500, 700) == {-0: "0", 1_000: "1,000", 2_000: "2,000"}
    assert all(2 <= len(flow(same, solved)) <= 8 for same in (3, 17, 999, 10**6) for solved in (0, 5, 10**5))


def test_rows_of_the_base_carry_its_mark(answer: Answer) -> None:
    section = next(one for one in document(answer.content).sections if one.anchor == "gf").parts[0]
    first, *others = (row[0] for row in section.tables[0].rows)
    assert first.text.endswith("(base)") and first.method == answer.content.base_series
    assert {one.method for one in others} == set(answer.content.methods) - {answer.content.base_series}


def test_the_table_in_batches_is_the_table(tmp_path: Path) -> None:
    columns = ["sample_id", "rollout", "response", "no such column"]
    for step, complete in ((1, True), (2, False)):
        run = write_run(tmp_path / "runs", FakeRun("mmmu", np.eye(9), f"x/checkpoint-{step}", complete=complete))
        pieces = list(run.batches(columns, n_rows=20))
        assert [row for piece in pieces for row in piece.to_pylist()] == run.table(columns).to_pylist()
        assert len(pieces) == (5 if complete else 1)
    broken = write_run(tmp_path / "runs", FakeRun("mmmu", np.eye(3), "x/checkpoint-3"))
    (broken.directory / "rollouts.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(StoreError, match="run again to rebuild"):
        list(broken.batches(columns))


def test_three_methods_get_gf_against_final_performance(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    for method, shares in {"sft": (0.9, 0.3, 0.4), "dpo": (0.92, 0.6, 0.5), "both": (0.95, 0.8, 0.62)}.items():
        for step in (5, 10):
            for task, share in zip((ID, OOD, "mmmu"), shares, strict=True):
                scores = (generator.random((60, 1)) < share).astype(float)
                write_run(tmp_path / "runs", FakeRun(task, scores, f"{method}/checkpoint-{step}"))
    content = answer_report(Question(tmp_path / "runs", resampling=FEW)).content
    (pair,) = content.pairs
    assert pair.final is not None and pair.final.tasks == ("mmmu",) and len(pair.final.points) == 3
    section = next(one for one in document(content).sections if one.anchor == "gf").parts[0]
    figure = section.figures[-1]
    assert figure.name == "gf-0-final" and f"{pair.final.line.r_squared:.3f}" in figure.title
    drawn = {trace.get("name"): trace for trace in figure.traces}
    for point in pair.final.points:
        assert drawn[point.series]["x"] == [100 * point.gf] and drawn[point.series]["y"] == [100 * point.final.value]  # type: ignore[operator]
    two = answer_report(Question(tmp_path / "runs", choice=Choice(("sft", "dpo")), resampling=FEW)).content
    assert two.pairs[0].final is None, "two points make no line worth showing"


def test_a_series_can_start_from_a_checkpoint_of_another(store: Path) -> None:
    methods = ("dpo", "sft")
    (plain,) = answer_report(Question(store, resampling=FEW)).content.pairs
    series = {one.series: one for one in plain.series}
    last = series["dpo"].points[-1]
    content = answer_report(Question(store, resampling=FEW, starts=(f"sft={last.checkpoint}",))).content
    section = next(one for one in document(content).sections if one.anchor == "gf").parts[0]
    (figure,) = [one for one in section.figures if one.name == "gf-0-ood"]
    first = {one["name"]: (one["x"][0], one["y"][0]) for one in figure.traces if one.get("name") in methods}
    assert first["sft"] == (0, pytest.approx(100 * last.ood.value)), "it starts where the other ended"
    base = series["dpo"].points[0]
    assert base.is_base and first["dpo"] == (0, pytest.approx(100 * base.ood.value))
    assert content.pairs[0].series == plain.series, "numbers stay; only the curves start elsewhere"


@pytest.mark.parametrize("start", ["sft", "nobody=base", "sft=dpo/checkpoint-999"])
def test_a_start_that_is_not_there_is_named(store: Path, tmp_path: Path, start: str) -> None:
    result = call("--store", store, "-o", tmp_path / "r.html", "--start", start)
    assert result.exit_code == 2 and start in result.output and "dpo" in result.output


def test_many_tasks_fold(tmp_path: Path) -> None:
    for number in range(12):
        for step in (1, 2):
            write_run(tmp_path / "runs", FakeRun(f"task{number}", np.eye(4), f"x/checkpoint-{step}"))
    assert call("--store", tmp_path / "runs", "-o", tmp_path / "r.html").exit_code == 0
    page = (tmp_path / "r.html").read_text()
    assert "<summary>3 more figures</summary>" in page and "<summary>12 more tables</summary>" in page
    assert page.count('data-figure="score-') == 12
