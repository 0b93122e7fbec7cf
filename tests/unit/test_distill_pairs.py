"""From a run to a folder of pairs: filters and their counts, balance, split, determinism, and what stops it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from distilling import Scripted, good, prepared_and_sampled, sampled
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_server import running
from question_sets import png, question, question_set

from specs_eval.chat import ImagePart
from specs_eval.errors import ConfigError, TrainingError
from specs_eval.tasks.formats.styles import FORMATS, THINK_ANSWER
from specs_eval.tasks.judging import Judge, JudgeOptions
from specs_eval.training.distill.contamination import find_contamination, normalized
from specs_eval.training.distill.dataset import load_pairs
from specs_eval.training.distill.pairs import clusters, without_duplicates
from specs_eval.training.distill.pipeline import distill, prepare
from specs_eval.training.distill.pollution import POLLUTIONS
from specs_eval.training.distill.settings import DistillSettings
from specs_eval.training.questions.reading import collect
from specs_eval.training.questions.sources import load_questions
from specs_eval.training.questions.task import QuestionTask

SPLITS = ("train", "validation")


def mixed(number: int, rollout: int) -> str:
    """Question by question another fate."""
    fates = {
        0: "<think>x</think><answer>999</answer>",
        1: str(number + 1),
        2: f"<think>{number} and 1 makes {number + 2}</think><answer>{number + 1}</answer>",
        3: f"<think>let me see</think><answer>{number + 1}</answer>",
    }
    wrong = f"<think>try {rollout}</think>\n<answer>{number + 7}</answer>"
    return fates.get(number % 8, wrong if number % 8 == 4 and rollout % 2 else good(number, rollout))


def rows_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    files = {split: folder / f"{split}-00000.parquet" for split in SPLITS}
    return {split: pq.read_table(file).to_pylist() for split, file in files.items() if file.exists()}


def text_of(messages: list[dict[str, Any]]) -> str:
    return "".join(part["text"] or "" for part in messages[0]["content"])


def make(tmp_path: Path, name: str = "pairs", *, n: int = 80, script: Any = mixed, **changes: Any) -> tuple[Path, Any]:
    prepared, run = prepared_and_sampled(tmp_path / "runs", question_set(n), script)
    made = distill(run, prepared, DistillSettings(**{"n_rollouts": 4, **changes}), tmp_path / name)
    return made.folder, made.summary["counts"]


def test_every_question_and_rollout_is_counted_once(tmp_path: Path) -> None:
    _, counts = make(tmp_path, validation_share=0.25)
    questions, rollouts = counts["questions"], counts["rollouts"]
    assert questions["sampled"] == 80
    assert questions["all rollouts wrong"] == 10
    assert questions["no usable rollout"] == 20
    assert questions["with a chosen response"] == 50
    assert rollouts.pop("sampled") == 320 == sum(rollouts.values())
    assert (rollouts["wrong answer"], rollouts["wrong format"], rollouts["contradicts itself"]) == (60, 40, 40)
    assert rollouts["kept, reasoning states no conclusion"] == 10
    assert rollouts["same text as another"] == 30
    assert rollouts["kept"] == 140
    assert sum(sum(kinds.values()) for kinds in counts["pairs"].values()) == 50


def test_chosen_are_good_and_rejected_differ_in_form_alone(tmp_path: Path) -> None:
    folder, _ = make(tmp_path, pairs_per_question=3)
    rows = [row for split in rows_of(folder).values() for row in split]
    assert len(rows) == 30 * 3 + 10 * 2 + 10
    for row in rows:
        parsed = THINK_ANSWER.parse(text_of(row["chosen"]))
        assert parsed.ok and parsed.answer == row["answer"]
        rejected = text_of(row["rejected"])
        assert not any(style.parse(rejected).ok for style in FORMATS.values())
        assert str(parsed.reasoning) in rejected and parsed.answer in rejected
        assert row["chosen_rollout"] == row["rejected_rollout"]
    assert len({(text_of(row["chosen"]), row["question_id"]) for row in rows}) == len(rows), "each chosen once"


def test_coupled_rejects_wrong_answers_and_nothing_else_changes(tmp_path: Path) -> None:
    folder, counts = make(tmp_path, data="coupled")
    rows = [row for split in rows_of(folder).values() for row in split]
    assert len(rows) == 10 and counts["questions"]["no wrong rollout to reject"] == 40
    for row in rows:
        number = int(row["answer"]) - 1
        assert THINK_ANSWER.parse(text_of(row["chosen"])).answer == row["answer"]
        assert str(number + 7) in text_of(row["rejected"])
        assert not THINK_ANSWER.parse(text_of(row["rejected"])).ok
        assert row["rejected_rollout"] % 2 == 1 and row["chosen_rollout"] % 2 == 0


def test_the_filter_can_be_left_out_or_sharpened(tmp_path: Path) -> None:
    for name, changes, questions in (
        ("without", {"consistency": "off"}, 60),
        ("rules", {}, 50),
        ("strict", {"require_conclusion": True}, 40),
    ):
        _, counts = make(tmp_path, name, **changes)
        assert counts["questions"]["with a chosen response"] == questions, name
    assert counts["rollouts"]["silent"] == 40


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 70), st.integers(0, 5))
def test_pollutions_are_balanced_in_both_splits(n: int, seed: int) -> None:
    from specs_eval.training.distill.candidates import Candidate, Harvest
    from specs_eval.training.distill.pairs import build_pairs
    from specs_eval.training.distill.settings import Counts

    chosen = {}
    for number in range(n):
        asked = question(number)
        chosen[asked.question_id] = [Candidate(asked, 0, good(number, 0), f"{number} and 1", str(number + 1))]
    counts = Counts()
    pairs = build_pairs(
        Harvest(chosen, {key: [] for key in chosen}), DistillSettings(seed=seed, validation_share=0.4), counts
    )
    for split in SPLITS:
        found = Counter(pair.pollution for pair in pairs[split])
        assert max(found.values(), default=0) - min(found[kind] for kind in POLLUTIONS) <= 1
        assert counts.pairs[split] == {kind: found[kind] for kind in POLLUTIONS}
    assert len(pairs["validation"]) == round(0.4 * n) and len(pairs["train"]) == n - round(0.4 * n)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([None, "a", "b"])), min_size=1, max_size=12))
def test_clusters_are_the_connected_components(links: list[tuple[int, str | None]]) -> None:
    asked = [question(number, image=image, group=group) for number, (image, group) in enumerate(links)]
    reach = [{number} for number in range(len(links))]
    for _ in links:
        for one, (image, group) in enumerate(links):
            for other, (image2, group2) in enumerate(links):
                if image == image2 or (group is not None and group == group2):
                    reach[one] |= reach[other]
    root = clusters(asked)
    for one in range(len(links)):
        for other in range(len(links)):
            assert (root[asked[one].question_id] == root[asked[other].question_id]) == (other in reach[one])


def test_no_image_is_on_both_sides(tmp_path: Path) -> None:
    prepared, run = prepared_and_sampled(tmp_path / "runs", question_set(60, per_image=3))
    made = distill(run, prepared, DistillSettings(n_rollouts=4, validation_share=0.3), tmp_path / "pairs")
    images = {
        split: {image["bytes"] for row in rows for image in row["images"]}
        for split, rows in rows_of(made.folder).items()
    }
    assert images["train"] and images["validation"] and not images["train"] & images["validation"]
    assert len(rows_of(made.folder)["validation"]) == 18


def test_the_same_seed_gives_the_same_files_and_another_seed_other_pairs(tmp_path: Path) -> None:
    files = {}
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        folder, _ = make(tmp_path, name, seed=seed, pairs_per_question=2)
        files[name] = {split: (folder / f"{split}-00000.parquet").read_bytes() for split in SPLITS}
        assert len(rows_of(folder)["validation"]) == 4
    assert files["one"] == files["again"]
    assert files["one"] != files["two"]


def test_more_rollouts_in_the_store_change_nothing(tmp_path: Path) -> None:
    folder, _ = make(tmp_path, "before")
    prepared, run = prepared_and_sampled(tmp_path / "runs", question_set(80), mixed, n_rollouts=6)
    after = distill(run, prepared, DistillSettings(n_rollouts=4), tmp_path / "after")
    assert rows_of(after.folder) == rows_of(folder)


def test_a_limit_asks_a_prefix_and_growing_it_asks_only_the_rest(tmp_path: Path) -> None:
    first, backend = prepare(question_set(40, limit=8)), Scripted(good)
    sampled(tmp_path / "runs", first, backend)
    assert len(backend.calls) == 8
    second, grown = prepare(question_set(40, limit=20)), Scripted(good)
    run = sampled(tmp_path / "runs", second, grown)
    assert len(grown.calls) == 12
    assert (
        distill(run, second, DistillSettings(n_rollouts=4), tmp_path / "pairs").summary["counts"]["rollouts"]["sampled"]
        == 80
    )
    again = distill(run, prepare(question_set(40, limit=8)), DistillSettings(n_rollouts=4), tmp_path / "few")
    assert again.summary["counts"]["rollouts"]["sampled"] == 32


def test_interrupted_sampling_continues_to_the_same_pairs(tmp_path: Path) -> None:
    whole, _ = make(tmp_path / "whole")
    prepared, dying = prepare(question_set(80)), Scripted(mixed)
    dying.die_after = 30
    with pytest.raises(KeyboardInterrupt):
        sampled(tmp_path / "runs", prepared, dying)
    resumed = Scripted(mixed)
    run = sampled(tmp_path / "runs", prepared, resumed)
    assert 0 < len(resumed.calls) < 80
    made = distill(run, prepared, DistillSettings(n_rollouts=4), tmp_path / "pairs")
    assert rows_of(made.folder) == rows_of(whole)


def test_an_interrupted_write_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from specs_eval.training.distill import pipeline

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    prepared, run = prepared_and_sampled(tmp_path / "runs", question_set(10))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "write_split", killed)
        distill(run, prepared, DistillSettings(n_rollouts=4), tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()
    prepared = prepare(question_set(10))
    assert not distill(run, prepared, DistillSettings(n_rollouts=4), tmp_path / "pairs").unchanged


def test_a_finished_folder_is_left_alone_and_another_is_refused(tmp_path: Path) -> None:
    folder, _ = make(tmp_path)
    before = (folder / "train-00000.parquet").stat()
    prepared, run = prepared_and_sampled(tmp_path / "runs", question_set(80), mixed)
    assert distill(run, prepared, DistillSettings(n_rollouts=4), folder).unchanged
    assert (folder / "train-00000.parquet").stat() == before
    with pytest.raises(ConfigError, match="holds other pairs"):
        make(tmp_path, seed=5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match="exists already"):
        make(tmp_path, "mine")


def test_no_usable_pair_stops_with_the_counts(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        make(tmp_path, script=lambda number, rollout: "no idea", n=6)
    assert "no usable pair" in str(caught.value)
    assert "all rollouts wrong: 6" in str(caught.value) and "wrong answer: 24" in str(caught.value)
    assert not (tmp_path / "pairs").exists()
    with pytest.raises(TrainingError, match="no wrong rollout to reject: 6"):
        make(tmp_path / "coupled", script=good, n=6, data="coupled")


def test_unanswered_rollouts_are_counted_and_not_used(tmp_path: Path) -> None:
    prepared, backend = prepare(question_set(6)), Scripted(good)
    backend.fail_samples = {"q003/think_answer"}
    run = sampled(tmp_path / "runs", prepared, backend)
    counts = distill(run, prepared, DistillSettings(n_rollouts=4), tmp_path / "pairs").summary["counts"]
    assert counts["rollouts"]["not answered or judged"] == 4
    assert counts["questions"]["no usable rollout"] == 1 and counts["questions"]["with a chosen response"] == 5


def test_provenance_leads_back_to_the_run(tmp_path: Path) -> None:
    prepared, run = prepared_and_sampled(tmp_path / "runs", question_set(20))
    made = distill(run, prepared, DistillSettings(n_rollouts=4, source="teacher", seed=3), tmp_path / "pairs")
    stored = {(one.sample_id, one.rollout): one.response for one in run.rollouts()}
    for row in rows_of(made.folder)["train"]:
        assert stored[f"{row['question_id']}/think_answer", row["chosen_rollout"]].strip() == text_of(row["chosen"])
        assert (row["run_id"], row["fingerprint"], row["checkpoint"]) == (run.run_id, "f" * 64, "zero")
        assert (row["source"], row["data"], row["seed"]) == ("teacher", "decoupled", 3)
    summary = json.loads((made.folder / "distill.json").read_text())
    assert summary["settings"]["source"] == "teacher" and summary["run"]["run_id"] == run.run_id


def test_the_folder_loads_as_trl_wants_it(tmp_path: Path) -> None:
    assert set(load_pairs(make(tmp_path, "all", validation_share=0.0)[0])) == {"train"}
    folder, _ = make(tmp_path, validation_share=0.1)
    loaded = load_pairs(folder)
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 45, "validation": 5}
    row = loaded["train"][0]
    assert list(row) == ["images", "prompt", "chosen", "rejected"]
    (turn,) = row["prompt"]
    assert turn["role"] == "user" and [part["type"] for part in turn["content"]] == ["image", "text"]
    assert turn["content"][1]["text"].endswith(f"?\n{THINK_ANSWER.instruction}")
    assert row["images"][0].size == (4, 4)
    assert "question_id" in load_pairs(folder, provenance=True)["train"].column_names
    with pytest.raises(ConfigError, match="no preference pairs"):
        load_pairs(tmp_path)


def test_datasets_does_not_take_one_folder_for_another_of_the_same_name(tmp_path: Path) -> None:
    """Its cache knows a folder with a card by its last name and the name of the card's configuration."""
    from datasets import load_dataset

    folders = [make(tmp_path / name, validation_share=0.1, max_pairs=n)[0] for name, n in (("a", 20), ("b", 30))]
    assert folders[0].name == folders[1].name
    for folder, n in zip(folders, (20, 30), strict=True):
        loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
        assert {split: len(rows) for split, rows in loaded.items()} == {"train": n - n // 10, "validation": n // 10}
        ids = [row["question_id"] for row in loaded["train"].remove_columns("images")]
        assert ids == [
            row["question_id"] for row in load_pairs(folder, provenance=True)["train"].remove_columns("images")
        ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_rollouts": 0}, "n_rollouts"),
        ({"validation_share": 1.0}, "validation_share"),
        ({"max_pairs": 0}, "max_pairs"),
        ({"data": "both"}, "decoupled, coupled"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DistillSettings(**changes)


def test_a_judge_for_consistency_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--judge"):
        make(tmp_path, consistency="judge")


def test_a_judge_decides_on_consistency_and_its_silence_drops_the_response(tmp_path: Path) -> None:
    with running() as server:
        server.answer = lambda prompt: "No" if "try 0" in prompt else "Perhaps" if "try 1" in prompt else "Yes"
        judge = Judge(JudgeOptions(server.url, "m", attempts=1), sleep=lambda seconds: None)
        prepared, run = prepared_and_sampled(tmp_path / "runs", question_set(10))
        wanted = DistillSettings(n_rollouts=4, consistency="judge", pairs_per_question=4)
        made = distill(run, prepared, wanted, tmp_path / "pairs", judge=judge)
    rollouts = made.summary["counts"]["rollouts"]
    assert (rollouts["contradicts itself"], rollouts["consistency not judged"], rollouts["kept"]) == (10, 10, 20)
    assert {row["chosen_rollout"] for row in rows_of(made.folder)["train"]} == {2, 3}


def test_something_always_stays_to_train_on(tmp_path: Path) -> None:
    _, counts = make(tmp_path, max_pairs=1, validation_share=0.9)
    assert {split: sum(kinds.values()) for split, kinds in counts["pairs"].items()} == {"train": 1, "validation": 0}


def test_at_most_so_many_pairs(tmp_path: Path) -> None:
    _, counts = make(tmp_path, max_pairs=12, validation_share=0.25)
    assert {split: sum(kinds.values()) for split, kinds in counts["pairs"].items()} == {"train": 9, "validation": 3}
    assert counts["questions"]["pairs over the limit"] == 38


def test_questions_that_are_not_asked_are_told_with_their_reasons(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n}?", "answer": str(n)} for n in range(5)]
    bad = [{"question": "No gold?"}, {"question": "No image?", "answer": "x", "images": ["gone.png"]}, rows[0]]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, [*rows, *bad])))
    told = prepare(load_questions(f"jsonl:{tmp_path / 'q.jsonl'}")).told()
    assert told == "5 questions; left out: 1 no gold answer, 1 image missing, 1 asked twice"
    assert prepare(load_questions("easyvqa", 3)).told() == "3 questions"


def test_duplicates_are_dropped_once_each() -> None:
    asked = [question(1), question(2, text="WHAT is 1 plus one?", image=1), question(3, text=question(1).text, image=9)]
    kept, n_dropped = without_duplicates(asked)
    assert ([one.question_id for one in kept], n_dropped) == (["q001", "q003"], 1)
    prepared = prepare(collect("twice", asked, place="a test"))
    assert prepared.counts.questions["asked twice"] == 1 and len(prepared.questions.questions) == 2


def bmp(part: ImagePart) -> ImagePart:
    """The same picture in another kind of file."""
    import io

    stream = io.BytesIO()
    part.load().save(stream, "bmp")
    return ImagePart(stream.getvalue())


@pytest.mark.parametrize(
    ("changes", "dropped"),
    [
        ({}, True),
        ({"text": "what is  1 PLUS one"}, True),
        ({"images": (bmp(ImagePart(png(1))),)}, True),
        ({"text": "What is 1 plus one? Answer with a number."}, False),
        ({"image": 5}, False),
        ({"text": "What is 1 plus two?"}, False),
    ],
)
def test_contamination_by_text_and_image(changes: dict[str, Any], dropped: bool) -> None:
    evaluated = QuestionTask(collect("evaluated", [question(1), question(2)], place="a test"))
    found = find_contamination([question(7, **{"image": 1, "text": question(1).text, **changes})], [evaluated])
    assert bool(found.dropped) is dropped
    assert found.n_evaluation == {"questions_evaluated": 2}
    assert found.n_same_image == int(not dropped and "image" not in changes)


def test_an_evaluation_text_that_holds_the_question_counts_and_few_words_do_not() -> None:
    longer = question(1, text="Hint: a number. What is 1 plus one? Answer now.")
    short = question(2, text="What shape?", image=1)
    whole = question(3, text="Hint: What shape? Answer.", image=1)
    evaluated = QuestionTask(collect("evaluated", [longer, whole], place="a test"))
    assert set(find_contamination([question(1), short], [evaluated]).dropped) == {"q001"}


def test_questions_without_images_are_compared_by_text() -> None:
    plain = question(1, images=())
    evaluated = QuestionTask(collect("evaluated", [plain], place="a test"))
    found = find_contamination([question(7, text=plain.text, images=()), question(8, images=())], [evaluated])
    assert found.dropped == {"q007": "questions_evaluated"}


def test_contaminated_questions_are_never_sampled() -> None:
    evaluated = QuestionTask(question_set(3, name="evaluated"))
    prepared = prepare(question_set(5), [evaluated])
    assert {one.question_id for one in prepared.questions.questions} == {"q003", "q004"}
    assert prepared.counts.questions["also evaluated"] == 3
    with pytest.raises(TrainingError, match="also evaluated: 3"):
        prepare(question_set(3), [evaluated])


def test_normalized_text() -> None:
    assert normalized("<image>\nWhat’s  ＡＢ? ") == "what s ab"
