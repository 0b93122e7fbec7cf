"""Metrics and parsers against the official decisions, recorded once on cases of our own making."""

import ast
import hashlib
import json
from pathlib import Path
from random import Random

import pytest

from specs_eval.errors import ScoringError
from specs_eval.tasks.megabench.fields import NOT_COUNTED, Query, aggregate, score_fields
from specs_eval.tasks.megabench.json_answers import parse_json
from specs_eval.tasks.megabench.latex.arithmetic import number_of
from specs_eval.tasks.megabench.literals import listed, literal, stable_text, to_container, unquoted
from specs_eval.tasks.megabench.metrics.numerical import _without_units, box_content
from specs_eval.tasks.megabench.metrics.registry import ANSWER_METRICS, CONTEXT_METRICS
from specs_eval.tasks.megabench.parsing import Parsed, parse_response, parse_single

DATA = Path(__file__).resolve().parents[1] / "data"
METRIC_CASES = json.loads((DATA / "megabench_metrics.json").read_text())


def cases_of(metric):
    return [case for case in METRIC_CASES if case["metric"] == metric]


@pytest.mark.parametrize("metric", sorted({case["metric"] for case in METRIC_CASES}))
def test_metric_decides_as_the_official_code(metric):
    pytest.importorskip("rapidfuzz")
    pytest.importorskip("unidecode")
    for case in cases_of(metric):
        query = Query({"f": case["gold"]}, {"f": metric}, {}, case.get("context", {}), {})
        parsed = Parsed({"f": case["response"]})
        if metric == "constrained_generation":
            parsed = Parsed(case["response"])
        score = score_fields(parsed, query)["f"].score
        assert score == pytest.approx(case["score"], abs=1e-6), case


def test_every_metric_with_a_rule_has_golden_cases():
    untested = (ANSWER_METRICS.keys() | CONTEXT_METRICS.keys()) - {case["metric"] for case in METRIC_CASES}
    assert untested == {"gleu_cn"}


def test_chinese_words_are_those_of_jieba():
    jieba = pytest.importorskip("jieba")
    from specs_eval.tasks.megabench.metrics import overlap

    theirs = jieba.Tokenizer()
    with theirs.get_dict_file() as file:
        data = file.read()
    lines = data.decode("utf-8").splitlines()
    theirs.FREQ, theirs.total = theirs.gen_pfdict(theirs.get_dict_file())
    theirs.initialized = True
    assert overlap.counted_words(lines) == theirs.total
    total = overlap.JIEBA_TOTALS.get(hashlib.sha256(data).hexdigest())
    assert total in (None, theirs.total)
    random = Random(1)
    words = [line.split(" ")[0] for line in random.choices(lines, k=2_000)]
    texts = ["".join(random.sample(words, 6)) for _ in range(300)]
    texts += ["", "AT&T和B超", "\x00\ud800", "今天 hello, 1.5元", "𠀀𠀀"]
    ours = overlap._Segmenter()
    assert [ours.words(text) for text in texts] == [list(theirs.cut_for_search(text)) for text in texts]


def test_chinese_gleu():
    pytest.importorskip("jieba")
    gleu = ANSWER_METRICS["gleu_cn"]
    assert gleu("我来到北京清华大学", "我来到北京清华大学") == 1
    assert gleu("今天天气很好", "我来到北京清华大学") == 0
    assert 0 < gleu("我来到上海", "我来到北京清华大学") < 1
    assert gleu(None, "我") == 0


def test_numbers_are_read_as_by_the_official_code():
    for text, value in json.loads((DATA / "megabench_numbers.json").read_text()):
        found = number_of(_without_units(text))
        assert found == (None if value is None else pytest.approx(value)), text


@pytest.mark.parametrize(
    "case", json.loads((DATA / "megabench_parsing.json").read_text()), ids=lambda c: c["response"][:20]
)
def test_parser_decides_as_the_official_code(case):
    if case["parser"] == "json":
        value = parse_json(case["response"])
        value = {key: unquoted(item) for key, item in value.items()} if isinstance(value, dict) else value
        assert repr(value) == case["value"]
    else:
        art, strip = case["parser"] != "answer_string", case["parser"] != "verbatim_answer_string"
        assert parse_single(case["response"], case["one_line"], art, strip) == case["value"]


def test_json_without_an_object_gives_every_field_the_response():
    parsed = parse_response("json", "nothing", {"a": "1", "b": "2"})
    assert not parsed.ok
    assert parsed.value == {"a": "nothing", "b": "nothing"}


def test_a_single_field_parser_refuses_several_fields():
    with pytest.raises(ScoringError, match="one answer field"):
        parse_response("answer_string", "x", {"a": "1", "b": "2"})
    assert parse_response("answer_string", "x", {"a": "1", "##b": "2"}).value == {"a": "x"}


def test_unclosed_box_is_left_to_text_comparison_only_when_it_is_long():
    assert box_content("\\boxed{5") == "\\boxed{5"
    assert box_content("\\boxed{" + "a" * 40) is None
    assert box_content("\\boxed{a{b}c} \\boxed{d}") == "a{b}c"
    assert box_content("\\boxed{a{b{c}}} \\boxed{d}") == "d"


def test_sets_are_listed_in_one_order():
    assert listed({"b", "a", "c"}) == ["a", "b", "c"]
    assert listed({3, 1, 2}) == list({3, 1, 2})
    assert stable_text({"k": {"b", "a"}}) == "{'k': {'a', 'b'}}"
    assert to_container(list, "{'b', 'a'}") == ["a", "b"]


def test_aggregation_weights_leaves_out_and_takes_the_minimum():
    weights = {"a": 1, "b": 3}
    assert aggregate("mean", {"a": 1.0, "b": 0.0}, weights) == 0.25
    assert aggregate("mean", {"a": 1.0, "b": -1.0}, weights) == 1.0
    assert aggregate("min", {"a": 1.0, "b": 0.5}, weights) == 0.5
    assert aggregate("min", {"a": -1.0}, weights) == NOT_COUNTED
    assert aggregate("mean", {}, weights) == NOT_COUNTED
    with pytest.raises(ScoringError, match="weight"):
        aggregate("mean", {"c": 1.0}, weights)
    with pytest.raises(ScoringError, match="aggregation"):
        aggregate(None, {"a": 1.0}, weights)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("gpt_4o_as_judge", "needs a judge"),
        ("program_judge", "--allow-code-execution"),
        ("no_such_metric", "unknown metric"),
        ("nli_entailment", "entailment model"),
    ],
)
def test_what_no_rule_can_judge_is_unscored(metric, reason):
    query = Query({"f": 5 if metric == "nli_entailment" else "x"}, {"f": metric}, {}, {}, {})
    field = score_fields(Parsed({"f": "x"}), query)["f"]
    assert field.score is None
    assert reason in field.reason


def test_bras_and_kets_are_compared_by_what_they_hold():
    equality = ANSWER_METRICS["latex_expr_equality"]
    assert equality("|x+y\\rangle", "|y + x\\rangle") == 1
    assert equality("\\langle x|", "|x\\rangle") == 0


@pytest.mark.parametrize(
    "text",
    [
        '""or round(1,-10**7)',
        '""or "%300000000d"%1',
        '""or "a"*9**9',
        '""or [1]*9**9',
        '""or pow(10,10**9)',
        '""or 1<<10**9',
    ],
)
def test_arithmetic_refuses_what_grows_without_end(text):
    assert number_of(text) is None
    assert number_of('""or round(2.5678,2)') == 2.57 and number_of('""or 7%4') == 3


def test_literals_that_come_again_are_values_of_their_own():
    for text in ("[1, [2]]", " {'a': 1}", "{1, 2}"):
        first = literal(text)
        first.clear()
        assert literal(text) == ast.literal_eval(text.strip()) != first
    for _ in range(2):
        with pytest.raises(SyntaxError):
            literal("1 +")


def test_the_last_bracketed_parts_are_tried_and_no_more(monkeypatch):
    monkeypatch.setattr("specs_eval.tasks.megabench.json_answers.MAX_CANDIDATES", 3)
    assert parse_json('{"a": 1} {x} {y}') == {"a": 1}
    assert parse_json('{"a": 1} {x} {y} {z}') == {}
    assert parse_json('{"a": 1} {"b": 2} {x}') == {"b": 2}


def test_blank_lines_of_an_endless_picture_stay(monkeypatch):
    assert parse_single("Answer: a\n\n\n\nb", one_line=True, art=True) == " a\n\nb"
    monkeypatch.setattr("specs_eval.tasks.megabench.parsing.MAX_ART_CHARS", 5)
    assert parse_single("Answer: a\n\n\n\nb", one_line=True, art=True) == " a\n\n\n\nb"
