"""Rewards: what earns what, what earns nothing, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from fakes import FakeTask
from hostile import CORPUS
from hypothesis import given
from hypothesis import strategies as st
from judge_server import JudgeServer, running
from question_sets import question, question_set

from specs_eval.errors import ConfigError
from specs_eval.task import Sample, Score
from specs_eval.tasks.formats.styles import FORMATS, OOD_FORMATS, THINK_ANSWER
from specs_eval.tasks.formats.task import FormatTask
from specs_eval.tasks.judging import Judge, JudgeOptions
from specs_eval.training.questions.reading import collect
from specs_eval.training.questions.task import QuestionTask
from specs_eval.training.rewards import Reward, RewardWeights, TaskReward, completion_text

ID = "q004/think_answer"
"""Asks what 4 plus one is."""
GOOD = "<think>4 and 1 are 5</think>\n<answer>5</answer>"


@pytest.fixture(scope="module")
def reward() -> TaskReward:
    return TaskReward(QuestionTask(question_set(12)))


@pytest.mark.parametrize(
    ("response", "total"),
    [
        (GOOD, 1.5),
        (GOOD.replace("<answer>5", "<answer>6"), 0.5),
        ("4 and 1\nAnswer: 5", 1.0),
        ("<think>x</think><answer>5", 1.0),
        (GOOD + " so there", 1.0),
        ("5", 1.0),
        ("six", 0.0),
        ("", 0.0),
        ("<answer>5</answer><think>swapped</think>", 1.0),
    ],
)
def test_what_a_response_earns(reward: TaskReward, response: str, total: float) -> None:
    assert reward.score(ID, response).total == total


def test_the_reward_is_the_format_tasks_own_metrics(reward: TaskReward) -> None:
    samples = dict(reward.rows())
    for response in (GOOD, "5", "no", *CORPUS):
        scored = reward.task.score(samples[ID], response)
        assert reward.score(ID, response).format == scored.metrics["format"]
        assert reward.score(ID, response).accuracy == scored.metrics["accuracy"]


def test_weights_are_the_users(reward: TaskReward) -> None:
    other = TaskReward(reward.task, weights=RewardWeights(format=0.1, accuracy=2.0))
    assert other.score(ID, GOOD).total == pytest.approx(2.1)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="weight"):
            RewardWeights(accuracy=bad)


def test_each_asked_format_has_its_own_parser() -> None:
    every = TaskReward(FormatTask("all", QuestionTask(question_set(12)), (THINK_ANSWER, *OOD_FORMATS)))
    for asked in FORMATS.values():
        for given_in in FORMATS.values():
            found = every.score(f"q004/{asked.name}", given_in.render("4 and 1", "5"))
            assert found == Reward(1.0 + 0.5 * (asked is given_in), float(asked is given_in), 1.0, found.reason)


@given(st.one_of(st.text(max_size=200), st.sampled_from(CORPUS)))
def test_hostile_completions_earn_something_finite(text: str) -> None:
    shared = _SHARED
    assert shared.score(ID, text).total in (0.0, 0.5, 1.0, 1.5)
    assert shared([[{"role": "assistant", "content": text}]], sample_id=[ID])[0] in (0.0, 0.5, 1.0, 1.5)


_SHARED = TaskReward(QuestionTask(question_set(12)))


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("a", "a"),
        ([{"role": "assistant", "content": "a"}], "a"),
        ([{"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "ab"),
        ([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}], "b"),
        ([], ""),
        (None, ""),
        ([{"role": "assistant", "content": None}], ""),
        ([{"role": "assistant", "content": [{"type": "image"}, 3, {"text": None}]}], ""),
        ([3], ""),
    ],
)
def test_texts_of_completions(completion: object, text: str) -> None:
    assert completion_text(completion) == text


def test_trl_gets_one_reward_a_completion_and_metrics(reward: TaskReward) -> None:
    logged: dict[str, float] = {}
    completions = [[{"role": "assistant", "content": text}] for text in (GOOD, "5", "no", "no")]
    found = reward(
        completions, sample_id=[ID] * 4, log_metric=logged.__setitem__, prompts=["?"] * 4, completion_ids=[[1]] * 4
    )
    assert found == [1.5, 1.0, 0.0, 0.0]
    assert logged == {"reward/format": 0.25, "reward/accuracy": 0.5, "reward/unjudged": 0.0}


def test_the_two_parts_add_up_and_score_once(reward: TaskReward, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    score = reward.score
    monkeypatch.setattr(reward, "score", lambda *pair: calls.append(pair[0]) or score(*pair))  # type: ignore[func-returns-value]
    formatted, accuracy = reward.parts()
    completions, ids = [GOOD, "5", "no"], [ID] * 3
    parts = zip(formatted(completions, sample_id=ids), accuracy(completions, sample_id=ids), strict=True)
    assert [0.5 * form + right for form, right in parts if form is not None and right is not None] == [1.5, 1.0, 0.0]
    assert len(calls) == 3
    completions[0] = "no"
    assert formatted(completions, sample_id=ids) == [0.0, 0.0, 0.0], "a changed batch is another batch"
    assert (formatted.__name__, accuracy.__name__) == ("format_reward", "accuracy_reward")


class NoGold(FakeTask):
    def score_answer(self, sample: Sample, answer: str) -> Score:
        return Score(None, rule="no gold answer", reason="not public")


class Broken(FakeTask):
    def score_answer(self, sample: Sample, answer: str) -> Score:
        raise RuntimeError("scorer broke")


@pytest.mark.parametrize(("task", "reason"), [(NoGold(), "not public"), (Broken(), "scorer broke")])
def test_what_cannot_be_judged_is_skipped_in_both_parts(task: FakeTask, reason: str) -> None:
    skipping = TaskReward(task)
    ids = ["s0001/think_answer"]
    found = skipping.score(ids[0], GOOD)
    assert (found.total, found.format, found.accuracy) == (None, None, None)
    assert reason in str(found.reason)
    assert skipping([GOOD], sample_id=ids) == [None]
    assert [part([GOOD], sample_id=ids) for part in skipping.parts()] == [[None], [None]]


def test_wrong_wiring_is_an_error_that_says_what_to_do(reward: TaskReward) -> None:
    with pytest.raises(ConfigError, match="no column 'sample_id'"):
        reward([GOOD])
    with pytest.raises(ConfigError, match="has no sample 'q999'"):
        reward([GOOD], sample_id=["q999"])
    with pytest.raises(ConfigError, match="2 completions but 1"):
        reward([GOOD, GOOD], sample_id=[ID])


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running() as judge:
        yield judge


def free_answers(server: JudgeServer) -> TaskReward:
    rows = [question(1, text="What does the sign say?", answer="stop here", kind="text")]
    judge = Judge(JudgeOptions(server.url, "m", attempts=1), sleep=lambda seconds: None)
    return TaskReward(QuestionTask(collect("signs", rows, place="a test"), judge))


def asked(reward: TaskReward, answers: Sequence[str]) -> list[float | None]:
    responses = [f"<think>x</think><answer>{answer}</answer>" for answer in answers]
    return reward(responses, sample_id=["q001/think_answer"] * len(answers))


def test_a_judge_decides_on_free_answers_that_the_rules_do_not_find_equal(server: JudgeServer) -> None:
    server.answer = lambda prompt: "Yes." if "halt" in prompt else "no"
    assert asked(free_answers(server), ["Stop here!", "halt at this place", "go"]) == [1.5, 1.5, 0.5]
    assert len(server.prompts) == 2, "what is equal is not asked"
    assert all("stop here" in prompt for prompt in server.prompts)


@pytest.mark.parametrize("plan", [[500], [b"not json"], [401]])
def test_a_judge_that_fails_leaves_the_reward_out(server: JudgeServer, plan: list[object]) -> None:
    server.plan = plan  # type: ignore[assignment]
    assert asked(free_answers(server), ["halt"]) == [None]


def test_a_judge_that_rambles_leaves_the_reward_out(server: JudgeServer) -> None:
    server.answer = lambda prompt: "It depends."
    assert asked(free_answers(server), ["halt"]) == [None]


def test_samples_are_those_of_the_task(reward: TaskReward) -> None:
    assert list(dict(reward.rows())) == [sample.sample_id for sample in reward.task.samples()]
