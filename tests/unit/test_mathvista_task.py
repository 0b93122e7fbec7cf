"""MathVista and MMMU as tasks: data in every layout, official prompts, images in their places, gold and silence."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from specs_eval.chat import ImagePart, TextPart, images_of, text_of
from specs_eval.errors import TaskDataError
from specs_eval.task import Sample, Task
from specs_eval.tasks.formats.styles import FORMATS
from specs_eval.tasks.formats.task import FormatTask
from specs_eval.tasks.mathvista.prompts import build_prompt
from specs_eval.tasks.mathvista.task import SCORING_VERSION, MathVista
from specs_eval.tasks.mmmu.task import MMMU, MMMUPro
from specs_eval.tasks.registry import get_task

SHARED = Path(__file__).parents[3] / "shared/data/public/mathvista.jsonl"
SILENCE = ("", " ", "I don't know.", "no idea", "N/A", "<answer></answer>", "I'm sorry, I can't help with that.", "???")


def png(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def mathvista_records() -> list[dict[str, Any]]:
    meta = {"category": "c", "task": "t", "context": "x", "grade": "g", "source": "s", "language": "english"}
    kinds: list[dict[str, Any]] = [
        {"question_type": "multi_choice", "answer_type": "text", "choices": ["yes", "no"], "answer": "no"},
        {"question_type": "multi_choice", "answer_type": "text", "choices": ["(b)", "(a)"], "answer": "(b)"},
        {"question_type": "multi_choice", "answer_type": "text", "choices": ["B", "A"], "answer": "B"},
        {"question_type": "free_form", "answer_type": "integer", "unit": "g", "answer": "14"},
        {"question_type": "free_form", "answer_type": "float", "precision": 1, "answer": "1.2"},
        {"question_type": "free_form", "answer_type": "float", "precision": 2, "answer": "0.50"},
        {"question_type": "free_form", "answer_type": "list", "answer": "[1, 2]"},
    ]
    return [
        {
            "pid": str(index),
            "question": f"What is {index}?",
            "image": f"images/{index}.png",
            "choices": None,
            "unit": None,
            "precision": None,
            "metadata": {**meta, "skills": ["algebra", "logic"]},
            **kind,
        }
        for index, kind in enumerate(kinds)
    ]


def write_official(root: Path, records: list[dict[str, Any]], split: str = "testmini") -> None:
    folder = root / "mathvista"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for record in records:
        (folder / record["image"]).write_bytes(png(int(record["pid"])))
    (folder / f"{split}.json").write_text(json.dumps({record["pid"]: record for record in records}))


def write_hub(root: Path, records: list[dict[str, Any]], split: str = "testmini") -> None:
    folder = root / "AI4Math/MathVista/data"
    folder.mkdir(parents=True)
    rows = [
        {
            **record,
            "precision": None if record["precision"] is None else float(record["precision"]),
            "decoded_image": {"bytes": png(int(record["pid"])), "path": None},
            "query": build_prompt(record),
        }
        for record in records
    ]
    pq.write_table(pa.Table.from_pylist(rows[:4]), folder / f"{split}-00000-of-00002-a.parquet")
    pq.write_table(pa.Table.from_pylist(rows[4:]), folder / f"{split}-00001-of-00002-b.parquet")


def assert_gold_and_silence(task: Task) -> None:
    """The gold answer scores 1 under every format, and silence scores 0."""
    view = FormatTask("view", task, tuple(FORMATS.values()))
    for sample in view.samples():
        style = FORMATS[sample.category["format"]]
        score = view.score(sample, style.render("because", sample.target))
        assert (score.score, score.metrics["accuracy"]) == (1.0, 1.0), (sample.sample_id, sample.target, score)
        for text in SILENCE:
            assert view.score(sample, text).metrics.get("accuracy", 0.0) == 0.0, (sample.sample_id, text)


def test_hub_layout_and_official_json_are_the_same_task(tmp_path: Path) -> None:
    write_official(tmp_path / "json", mathvista_records())
    write_hub(tmp_path / "hub", mathvista_records())
    official, hub = MathVista("testmini", tmp_path / "json"), MathVista("testmini", tmp_path / "hub")
    assert len(official.samples()) == 7
    assert official.version == hub.version and official.version.startswith(f"{SCORING_VERSION}-official-")
    assert [sample.sample_id for sample in official.samples()] == [sample.sample_id for sample in hub.samples()]
    assert official.name == "mathvista" and MathVista("test").name == "mathvista_test"
    assert MathVista("testmini", tmp_path / "json", profile="reasoning").version != official.version


def test_changed_data_is_another_version(tmp_path: Path) -> None:
    records = mathvista_records()
    versions = set()
    for number, change in enumerate(({}, {"answer": "15"}, {"question": "Why?"}, {"unit": "kg"})):
        changed = [dict(record) for record in records]
        changed[3].update(change)
        write_official(tmp_path / str(number), changed)
        versions.add(MathVista("testmini", tmp_path / str(number)).version)
    assert len(versions) == 4
    (tmp_path / "0/mathvista/images/3.png").write_bytes(png(99))
    assert MathVista("testmini", tmp_path / "0").version not in versions


def test_mathvista_prompts_are_the_official_ones(tmp_path: Path) -> None:
    write_official(tmp_path, mathvista_records())
    by_id = {sample.sample_id: sample for sample in MathVista("testmini", tmp_path).samples()}
    first, *_ = images_of(by_id["0"].chat)
    assert isinstance(first.source, Path) and first.load().size == (4, 4)
    assert text_of(by_id["0"].chat) == (
        "<image>\nHint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the "
        "end.\nQuestion: What is 0?\nChoices:\n(A) yes\n(B) no"
    )
    assert "(Unit: g)" in text_of(by_id["3"].chat)
    solution = MathVista("testmini", tmp_path, prompt="solution")
    assert solution.name == "mathvista_solution"
    assert {text_of(sample.chat).rsplit("\n", 1)[1] for sample in solution.samples()} == {"Solution:"}
    question = by_id["4"].question
    assert question is not None and "Hint" not in text_of(question) and "one decimal place" in text_of(question)
    assert by_id["0"].category["skills"] == "algebra; logic"


def test_gold_scores_one_and_silence_zero_on_every_format(tmp_path: Path) -> None:
    write_official(tmp_path, mathvista_records())
    assert_gold_and_silence(MathVista("testmini", tmp_path))
    by_id = {sample.sample_id: sample for sample in MathVista("testmini", tmp_path).samples()}
    assert by_id["1"].target == "(b)" and by_id["2"].target == "A", "a bare letter is an option letter"


def test_the_profile_is_part_of_the_version_and_views_have_it_too(tmp_path: Path) -> None:
    write_official(tmp_path, mathvista_records())
    official, reasoning = (get_task("mathvista", tmp_path, profile=name) for name in ("official", "reasoning"))
    assert official.version != reasoning.version and "reasoning" in reasoning.version
    sample = next(s for s in official.samples() if s.target == "no")
    assert official.score(sample, "").metrics["no_answer"] == 1.0
    assert reasoning.score(sample, "<think>x</think><answer>no</answer>").score == 1.0
    views = [get_task("mathvista_formats_id", tmp_path, profile=name).version for name in ("official", "reasoning")]
    assert len(set(views)) == 2


def test_a_split_without_answers_is_unscored(tmp_path: Path) -> None:
    records = [{key: value for key, value in record.items() if key != "answer"} for record in mathvista_records()]
    write_official(tmp_path, records, "test")
    task = MathVista("test", tmp_path)
    score = task.score(task.samples()[0], "B")
    assert score.score is None and score.reason == "the answers of this split are not public"


def test_queries_beside_the_official_json_win(tmp_path: Path) -> None:
    records = mathvista_records()
    write_official(tmp_path, records)
    query = "Hint: Please say.\nQuestion: With numbers?"
    (tmp_path / "mathvista/query.json").write_text(json.dumps({"3": query}))
    by_id = {sample.sample_id: sample for sample in MathVista("testmini", tmp_path).samples()}
    assert text_of(by_id["3"].chat) == f"<image>\n{query}"
    assert by_id["3"].question is not None and "With numbers?" in text_of(by_id["3"].question)


def test_missing_data_says_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskDataError, match=r"(?s)MathVista testmini: no data in .*hf download AI4Math/MathVista"):
        MathVista("testmini", tmp_path).samples()
    with pytest.raises(TaskDataError, match=r"standard \(10 options\)"):
        MMMUPro("standard", tmp_path).samples()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(TaskDataError, match="neither in the hub's cache nor can it be downloaded"):
        MMMU("validation").samples()


@pytest.mark.parametrize("damage", ["image", "json", "parquet", "twice", "hint"])
def test_damaged_data_is_named(tmp_path: Path, damage: str) -> None:
    records = mathvista_records()
    if damage == "hint":
        records[4]["precision"] = 3
    write_official(tmp_path, records)
    folder = tmp_path / "mathvista"
    if damage == "image":
        (folder / "images/2.png").unlink()
    elif damage == "json":
        (folder / "testmini.json").write_text("{")
    elif damage == "parquet":
        (folder / "testmini.parquet").write_bytes(b"PAR1 not really")
    elif damage == "twice":
        (folder / "testmini.json").write_text(json.dumps([records[0], records[0]]))
    with pytest.raises(TaskDataError):
        MathVista("testmini", tmp_path).samples()


def mmmu_records() -> list[dict[str, Any]]:
    images = {f"image_{number}": {"bytes": png(number), "path": None} for number in range(1, 5)}
    rest = {f"image_{number}": None for number in range(5, 8)}
    base = {**images, **rest, "explanation": "", "img_type": "['x']", "topic_difficulty": "Easy", "subfield": "f"}
    return [
        {
            **base,
            "id": "validation_Art_1",
            "question": "See <image 2> then <image 1>, and <image 2> again?",
            "options": "['<image 3>', '<image 4>', 'it\\'s']",
            "answer": "B",
            "question_type": "multiple-choice",
        },
        {
            **base,
            "id": "validation_Art_2",
            "question": "What is <image 1>?",
            "options": "[]",
            "answer": "['Tampa', 'Florida']",
            "question_type": "open",
        },
        {
            **base,
            "id": "validation_Art_3",
            "question": "How much <image 1>?",
            "options": "[]",
            "answer": "C",
            "question_type": "open",
        },
    ]


def write_mmmu(root: Path, records: list[dict[str, Any]], folder: str, name: str) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), root / folder / name)


def shades(sample: Sample) -> list[str | int]:
    """The chat as texts and the shade of each image."""
    found: list[str | int] = []
    for part in sample.chat[0].parts:
        if isinstance(part, TextPart):
            found.append(part.text)
        else:
            assert isinstance(part, ImagePart)
            red = part.load().getpixel((0, 0))
            assert isinstance(red, tuple)
            found.append(int(red[0]))
    return found


def test_mmmu_puts_images_where_the_text_has_them(tmp_path: Path) -> None:
    write_mmmu(tmp_path, mmmu_records(), "MMMU/Art", "validation-00000-of-00001.parquet")
    task = MMMU("validation", tmp_path)
    by_id = {sample.sample_id: sample for sample in task.samples()}
    assert shades(by_id["validation_Art_1"]) == [
        "See ",
        2,
        " then ",
        1,
        ", and ",
        2,
        " again?\n\n(A) ",
        3,
        "\n(B) ",
        4,
        "\n(C) it's\n\n\nAnswer with the option's letter from the given choices directly.",
    ]
    assert shades(by_id["validation_Art_3"])[-1] == "?\n\nAnswer the question using a single word or phrase."
    assert by_id["validation_Art_2"].target == '["Tampa", "Florida"]'
    assert by_id["validation_Art_1"].category["domain"] == "Art and Design"
    assert_gold_and_silence(task)


def test_an_image_tag_without_image_stays_text_but_no_image_at_all_is_an_error(tmp_path: Path) -> None:
    records = mmmu_records()
    records[0]["question"] = "See <image 1> and <image 9>"
    write_mmmu(tmp_path, records, "MMMU/Art", "validation-00000-of-00001.parquet")
    by_id = {sample.sample_id: sample for sample in MMMU("validation", tmp_path).samples()}
    assert any("<image 9>" in str(part) for part in shades(by_id["validation_Art_1"]))
    bare = [{**record, **{f"image_{n}": None for n in range(1, 8)}} for record in mmmu_records()]
    write_mmmu(tmp_path / "bare", bare, "MMMU/Art", "dev-0.parquet")
    with pytest.raises(TaskDataError, match="the record has no image"):
        MMMU("dev", tmp_path / "bare").samples()


def test_mmmu_from_json_with_images_in_files(tmp_path: Path) -> None:
    records = [{**record, "image_1": "a.png", **{f"image_{n}": None for n in range(2, 8)}} for record in mmmu_records()]
    records[0]["question"], records[0]["options"] = "<image 1>", ["x", "y"]
    (tmp_path / "mmmu/images").mkdir(parents=True)
    (tmp_path / "mmmu/images/a.png").write_bytes(png(7))
    (tmp_path / "mmmu/validation.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert len(MMMU("validation", tmp_path).samples()) == 3


def test_the_options_of_a_record_are_never_evaluated(tmp_path: Path) -> None:
    records = mmmu_records()
    records[0]["options"] = "__import__('os').system('true')"
    write_mmmu(tmp_path, records, "MMMU/Art", "validation-0.parquet")
    with pytest.raises(TaskDataError, match="expected a list"):
        MMMU("validation", tmp_path).samples()


def test_mmmu_pro_in_its_three_settings(tmp_path: Path) -> None:
    standard = [{**mmmu_records()[0], "subject": "Art"}]
    for name in ("standard (10 options)", "standard (4 options)"):
        write_mmmu(tmp_path, standard, f"MMMU_Pro/{name}", "test-00000-of-00002.parquet")
    vision = [{"id": "test_Art_1", "image": {"bytes": png(9), "path": None}, "options": "['a', 'b']", "answer": "B"}]
    write_mmmu(tmp_path, vision, "MMMU_Pro/vision", "test-00000-of-00006.parquet")
    names = {MMMUPro(setting, tmp_path).name for setting in ("standard", "standard4", "vision")}  # type: ignore[arg-type]
    assert names == {"mmmu_pro", "mmmu_pro_standard4", "mmmu_pro_vision"}
    parts = shades(MMMUPro("standard", tmp_path).samples()[0])
    assert parts[-1] == "\nC. it's\nAnswer with the option letter from the given choices directly."
    cot = MMMUPro("standard4", tmp_path, mode="cot")
    assert cot.name == "mmmu_pro_standard4_cot" and str(shades(cot.samples()[0])[-1]).endswith(
        "Think step by step before answering."
    )
    text, image = shades(MMMUPro("vision", tmp_path).samples()[0])
    assert image == 9 and str(text).startswith(
        "Answer with the option letter from the given choices directly. The last"
    )
    for setting in ("standard", "standard4", "vision"):
        assert_gold_and_silence(MMMUPro(setting, tmp_path))  # type: ignore[arg-type]


@pytest.mark.skipif(not SHARED.exists(), reason="the public outputs are not here")
def test_built_prompts_equal_the_recorded_ones() -> None:
    prompts = {}
    for line in SHARED.open(encoding="utf-8"):
        row = json.loads(line)
        if "prompt" in row:
            prompts[row["sample_id"]] = row
    equal = {key for key, row in prompts.items() if build_prompt({**row, "pid": key}) == row["prompt"]}
    placeholders = {key for key, row in prompts.items() if "N_0" in row["question"]}
    # The rest: choices or numbers that the authors changed in the data after the outputs were made.
    assert len(prompts) == 759 and len(prompts.keys() - equal - placeholders) <= 12
