"""What a run refuses before it trains anything, however late the stage that is meant."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tiny_training import tiny_recipe, write_pairs

from specs_eval.cli import main
from specs_eval.errors import ConfigError
from specs_eval.training import pipeline, preflight, stages
from specs_eval.training.config import Recipe
from specs_eval.training.distill.dataset import count_pairs, load_pairs
from specs_eval.training.state import RunState, StageState, save_state, stage_digest

ZERO = {"steps": 2, "batch": 2, "per_device": 8, "rollouts": 4}
EVALUATION = {"id": "formats_id", "ood": "formats_ood"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs", 8, 2)


def dry_run(folder: Path, facts: dict[str, Any], *more: str) -> tuple[int, str]:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(facts))
    result = CliRunner().invoke(main, ["train", str(path), "--dry-run", *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def facts_of(output: Path, stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    common = {"output": str(output), "model": {"path": "tiny", "device": "cpu"}}
    return {**common, "questions": {"source": "easyvqa", "limit": 64}, "stages": stages, **more}


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"rl": {**ZERO, "batch": 3, "per_device": 7}}, "stages.rl: 12 rollouts a step do not divide over 1 devices"),
        ({"rl": {**ZERO, "batch": 40, "per_device": 16}}, "there are 64 questions, and one generation takes 80"),
        ({"rl": {**ZERO, "more": {"optm": "sgd"}}}, "stages.rl.more.optm: GRPOConfig of TRL has no such argument; did"),
        (
            {"rl": {**ZERO, "more": {"loss_type": "x"}}},
            "stages.rl.more.loss_type: the recipe sets this by keys of its own",
        ),
        ({"rl": {**ZERO, "more": {"optim": "best"}}}, "stages.rl: GRPOConfig of TRL refuses: "),
        ({"cold_start": {"steps": 2, "batch": 4, "data": "/no/such"}}, "/no/such holds no preference pairs"),
    ],
)
def test_what_the_last_stage_would_refuse_is_refused_at_once(tmp_path: Path, stage: dict[str, Any], told: str) -> None:
    code, output = dry_run(tmp_path, facts_of(tmp_path / "out", {"zero": ZERO, **stage}))
    assert code == 2 and told in output
    assert not (tmp_path / "out").exists()


def test_a_run_refuses_what_a_dry_run_does_before_the_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.StageRunner, "run", lambda self: pytest.fail("a stage ran"))
    for rl in ({**ZERO, "more": {"optm": "sgd"}}, {**ZERO, "batch": 3, "per_device": 7}, {**ZERO, "batch": 40}):
        recipe = tiny_recipe(tmp_path / "out", {"zero": ZERO, "rl": rl})
        with pytest.raises(ConfigError, match=r"stages\.rl"):
            pipeline.train(recipe, observer=None, talk=print)  # type: ignore[arg-type]  # nothing is evaluated


def test_pairs_are_counted_before_they_are_needed(tmp_path: Path, pairs: Path) -> None:
    assert count_pairs(pairs) == 8
    cold = {"steps": 1, "batch": 9, "data": str(pairs)}
    code, output = dry_run(tmp_path, facts_of(tmp_path / "out", {"cold_start": cold}))
    assert code == 2 and "has 8 training pairs, and one step takes 9" in output
    assert dry_run(tmp_path, facts_of(tmp_path / "out", {"cold_start": {**cold, "batch": 8}}))[0] == 0


def test_a_folder_of_validation_pairs_alone_is_refused(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", 4, 2)
    (folder / "train-00000.parquet").unlink()
    for reads in (count_pairs, load_pairs):
        with pytest.raises(ConfigError, match="has no pairs to train on: train-00000.parquet is missing"):
            reads(folder)
    (folder / "train-00000.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ConfigError, match="cannot read"):
        count_pairs(folder)


def test_questions_that_are_not_there_are_refused_at_once(tmp_path: Path) -> None:
    for source, told in (("virl:/no/such", "no question file at /no/such"), ("vrl:x", "are not understood")):
        facts = facts_of(tmp_path / "out", {"zero": ZERO}, questions={"source": source})
        code, output = dry_run(tmp_path, facts)
        assert code == 2 and told in output


@pytest.mark.parametrize(
    ("evaluation", "told"),
    [
        (
            {"limit": {"format_id": 2}},
            "evaluation.limit: format_id is not evaluated; evaluation has easyvqa_formats_id,",
        ),
        ({"metric": "acuracy"}, "evaluation.metric: easyvqa_formats_id has no metric 'acuracy'"),
        ({"ood": "formats_ood[format=jsn]"}, "jsn"),
    ],
)
def test_evaluations_that_gf_could_not_be_read_from_are_refused(
    tmp_path: Path, evaluation: dict[str, Any], told: str
) -> None:
    facts = facts_of(tmp_path / "out", {"zero": ZERO}, evaluation={**EVALUATION, **evaluation})
    code, output = dry_run(tmp_path, facts)
    assert code == 2 and told in output


def test_packages_that_are_not_here_are_named_with_their_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        ("trl.import_utils", "is_vllm_available"),
        ("transformers.utils", "is_flash_attn_2_available"),
    ):
        monkeypatch.setattr(importlib.import_module(module), name, lambda: False)
    vllm = tiny_recipe(tmp_path, {"zero": {**ZERO, "vllm": {"mode": "colocate"}}})
    with pytest.raises(ConfigError, match=r"stages.zero.vllm: vllm is not installed"):
        preflight.check_packages(vllm)
    flash = tiny_recipe(tmp_path, {"zero": ZERO}, model={"path": "tiny", "attention": "flash_attention_2"})
    with pytest.raises(ConfigError, match=r"model.attention: flash_attention_2 needs a GPU"):
        preflight.check_packages(flash)


def test_a_dry_run_of_from_tells_what_would_be_done_again_and_touches_nothing(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "out", {"zero": ZERO, "rl": ZERO})
    recipe = Recipe.model_validate(facts)
    state = RunState(
        stages={name: StageState(digest=stage_digest(recipe, name), status="done") for name in ("zero", "rl")}
    )
    (tmp_path / "out").mkdir()
    save_state(tmp_path / "out", state)
    facts["stages"]["rl"] = {**ZERO, "learning_rate": 1.0}
    code, output = dry_run(tmp_path, facts)
    assert code == 2 and "--from rl runs it" in output
    code, output = dry_run(tmp_path, facts, "--from", "rl")
    assert code == 0 and "1. zero (done)" in output and "2. rl (to do)" in output
    code, output = dry_run(tmp_path, facts, "--from", "distill")
    assert code == 2 and "no such stage; it has zero, rl" in output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.json"]
