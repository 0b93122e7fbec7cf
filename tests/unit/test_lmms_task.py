from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from lmms_eval.tasks import TaskManager
from PIL import Image

import specs_eval.tasks
from specs_eval.chat import chat_digest
from specs_eval.errors import ConfigError, GenerationError
from specs_eval.lmms_models.messages import chat_from_messages
from specs_eval.sampling import noise_key
from specs_eval.tasks.formats.styles import FORMATS, THINK_ANSWER
from specs_eval.tasks.lmms.task import KeepAll, SpecsTask, mean_of_scored
from specs_eval.tasks.registry import get_task

FOLDER = Path(specs_eval.tasks.__path__[0])


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    return TaskManager(include_path=str(FOLDER), include_defaults=False)


@pytest.fixture(scope="module")
def easyvqa(manager: TaskManager) -> Any:
    return manager.load_task_or_group(["specs_easyvqa"], task_type="chat")["specs_easyvqa"]


@pytest.fixture(scope="module")
def formats_ood(manager: TaskManager) -> Any:
    return manager.load_task_or_group(["specs_formats_ood"], task_type="chat")["specs_formats_ood"]


def test_every_yaml_below_the_tasks_folder_is_a_task_of_ours(manager: TaskManager) -> None:
    files = sorted(FOLDER.rglob("*.yaml"))
    assert len(manager.all_tasks) == len(files)
    assert all(name.startswith("specs_") for name in manager.all_tasks)
    assert {path.stem for path in files} == set(manager.all_tasks)


def test_documents_are_the_samples_in_order(easyvqa: Any) -> None:
    samples = get_task("easyvqa").samples()
    docs = easyvqa.test_docs()
    assert len(docs) == len(samples)
    assert list(docs["sample_id"][:50]) == [sample.sample_id for sample in samples[:50]]
    assert [easyvqa.doc_to_target(docs[number]) for number in range(50)] == [s.target for s in samples[:50]]


def test_messages_ask_exactly_what_the_task_asks(easyvqa: Any) -> None:
    for number in (0, 17):
        sample = easyvqa.source.samples()[number]
        chat = chat_from_messages(easyvqa.doc_to_messages(easyvqa.test_docs()[number]))
        assert [message.role for message in chat] == [message.role for message in sample.chat]
        assert chat[0].parts[1:] == sample.chat[0].parts[1:]
        assert chat[0].parts[0].load().tobytes() == sample.chat[0].parts[0].load().tobytes()


def test_settings_leave_no_trap(easyvqa: Any) -> None:
    config = easyvqa.config
    assert config.generation_kwargs == {"max_new_tokens": 8, "temperature": 0.0, "top_p": 1.0, "until": []}
    assert (config.reasoning_tags, config.num_fewshot, config.repeats) == ("none", 0, 1)
    assert get_task("easyvqa").version == easyvqa.VERSION
    json.dumps(easyvqa.dump_config(), default=str)


def request_of(task: Any, limit: int = 3) -> list[Any]:
    task.build_all_requests(limit=limit, rank=0, world_size=1)
    return list(task.instances)


def test_requests_are_a_prefix_and_their_hashes_differ(easyvqa: Any) -> None:
    instances = request_of(easyvqa)
    assert [instance.args[3:] for instance in instances] == [(n, "specs_easyvqa", "test") for n in range(3)]
    sample = easyvqa.source.samples()[1]
    assert instances[1].doc["prompt"] == chat_digest(sample.chat)
    assert len({json.dumps(instance.doc) for instance in instances}) == 3


@pytest.mark.parametrize(("model", "force_simple", "simple"), [("llava", False, True), ("qwen2_5_vl", False, False)])
def test_simple_models_get_simple_requests(easyvqa: Any, model: str, force_simple: bool, simple: bool) -> None:
    easyvqa.args = Namespace(model=model, force_simple=force_simple)
    try:
        arguments = request_of(easyvqa, 1)[0].args
    finally:
        easyvqa.args = None
    doc = easyvqa.test_docs()[0]
    if simple:
        text, gen_kwargs, doc_to_visual = arguments[:3]
        assert text == easyvqa.doc_to_text(doc) and text.endswith("Answer with one word.")
        assert gen_kwargs["max_new_tokens"] == 8
        assert isinstance(doc_to_visual(doc)[0], Image.Image)
    else:
        assert callable(arguments[1])


def test_results_are_the_scores_of_our_scorer(formats_ood: Any) -> None:
    for number in range(12):
        doc = formats_ood.test_docs()[number]
        sample = formats_ood.source.samples()[number]
        for style in (FORMATS[sample.category["format"]], THINK_ANSWER):
            response = style.render("a shape", sample.target)
            score = formats_ood.source.score(sample, response)
            results = formats_ood.process_results(doc, [[response]])
            assert results == {"score": score.score, **score.metrics, "failed": 0.0}


def test_yaml_files_list_all_metrics_that_their_scorers_report(manager: TaskManager) -> None:
    for name in manager.all_tasks:
        if "easyvqa" not in name and "specs_formats" not in name:
            continue
        task = manager.load_task_or_group([name], task_type="chat")[name]
        sample = task.source.samples()[0]
        reported = task.source.score(sample, sample.target).metrics
        assert set(reported) | {"score", "failed"} == set(task.aggregation()), name


def test_benchmarks_that_need_data_find_it_and_score_the_same(
    manager: TaskManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mathvista"
    folder.mkdir()
    Image.new("RGB", (4, 4)).save(folder / "0.png")
    record = {"pid": "0", "question": "Is it?", "image": "0.png", "choices": ["yes", "no"], "answer": "no"}
    record |= {"question_type": "multi_choice", "answer_type": "text", "unit": None, "precision": None, "metadata": {}}
    (folder / "testmini.json").write_text(json.dumps({"0": record}))
    monkeypatch.setenv("SPECS_EVAL_DATA", str(tmp_path))
    task = manager.load_task_or_group(["specs_mathvista"], task_type="chat")["specs_mathvista"]
    doc, sample = task.test_docs()[0], task.source.samples()[0]
    for response in ("no", "(A)", "", "I cannot tell."):
        score = get_task("mathvista", tmp_path).score(sample, response)
        assert task.process_results(doc, [[response]]) == {"score": score.score, **score.metrics, "failed": 0.0}
    assert set(task.aggregation()) == {"score", "no_answer", "free_credit", "failed"}


def test_repeats_are_averaged_over_the_scored(easyvqa: Any) -> None:
    doc = easyvqa.test_docs()[0]
    target = easyvqa.doc_to_target(doc)
    wrong = "teal" if target != "teal" else "red"
    assert easyvqa.process_results(doc, [[target, wrong, None, target]]) == {"score": 2 / 3, "failed": 0.25}
    assert easyvqa.process_results(doc, [target]) == {"score": 1.0, "failed": 0.0}


def test_a_failed_generation_is_not_an_answer(easyvqa: Any) -> None:
    doc = easyvqa.test_docs()[0]
    assert easyvqa.process_results(doc, [[None]]) == {"score": None, "failed": 1.0}
    assert easyvqa.process_results(doc, [[""]]) == {"score": 0.0, "failed": 0.0}


def test_means_leave_out_what_has_no_score() -> None:
    assert mean_of_scored([1.0, None, 0.0]) == 0.5
    assert mean_of_scored([None]) is None
    assert mean_of_scored([]) is None


def test_all_repeats_reach_the_scorer() -> None:
    assert KeepAll().apply([["a", None], ["b", "c"]], None) == [["a", None], ["b", "c"]]


def test_an_image_that_does_not_decode_fails_there(easyvqa: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from specs_eval.chat import ImagePart, user_chat
    from specs_eval.task import Sample

    whole = tmp_path / "whole.png"
    Image.effect_noise((64, 64), 50).save(whole)
    torn = tmp_path / "torn.png"
    torn.write_bytes(whole.read_bytes()[:1500])
    monkeypatch.setattr(easyvqa, "_samples", [Sample("x", user_chat(ImagePart(torn), "what?"), "red")])
    with pytest.raises(GenerationError, match="does not decode"):
        easyvqa.doc_to_messages({"index": 0})


def test_names_for_noise_are_those_of_our_runs(easyvqa: Any) -> None:
    from specs_eval.lmms_models.identity import name_docs

    names = name_docs(easyvqa.dataset["test"], "specs_easyvqa")
    sample = get_task("easyvqa").samples()[3]
    assert noise_key(names.task, names.sample_ids[3]) == noise_key("easyvqa", sample.sample_id)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown task"):
        SpecsTask({"task": "specs_easyvqaa"})
