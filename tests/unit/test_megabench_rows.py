"""Rows: sources, profiles, replayed judges, coverage, and answers that are written to hurt."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile import CORPUS, FRAGMENTS
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.tasks.megabench.metrics.registry import ANSWER_METRICS, CONTEXT_METRICS
from specs_eval.tasks.megabench.rows import score_row
from specs_eval.tasks.rows import encode_scored

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "public"


def row(metric="exact_str_match", gold="A", response="Answer: A", parser="answer_string", **more):
    fields = gold if isinstance(gold, dict) else {"answer": gold}
    metrics = metric if isinstance(metric, dict) else dict.fromkeys(fields, metric)
    config = {
        "field_score_function": metrics,
        "aggregation": {"function": "mean", "field_weights": dict.fromkeys(metrics, 1)},
        "response_parse_function": parser,
    }
    return {
        "benchmark": "megabench",
        "model": "m",
        "sample_id": "s",
        "response": response,
        "gold": fields,
        "metric_config": config,
        **more,
    }


def test_right_and_wrong():
    assert score_row(row()).score == 1.0
    scored = score_row(row(response="Answer: B"))
    assert (scored.score, scored.field_scores, scored.extracted) == (0.0, {"answer": 0.0}, {"answer": "B"})
    assert scored.rule == "official:answer_string"


def test_columns_may_be_text_as_on_the_hub():
    plain = row()
    assert score_row({**plain, "gold": str(plain["gold"]), "metric_config": str(plain["metric_config"])}).score == 1.0


def test_sources():
    both = row(response="Answer: B", official_extraction={"answer": "A"})
    assert score_row(both, source="response").score == 0.0
    assert score_row(both, source="auto").score == 0.0
    assert score_row(both, source="extraction").score == 1.0
    assert score_row({**both, "response": None}, source="auto").score == 1.0
    assert score_row(row(), source="extraction").score is None


def test_judge_fields_are_replayed_or_lower_the_coverage():
    two = row({"a": "exact_str_match", "b": "gpt_4o_as_judge"}, {"a": "A", "b": "x"}, '{"a": "A", "b": "y"}', "json")
    assert score_row({**two, "judge_scores": {"b": 0.5}}).score == 0.75
    scored = score_row(two)
    assert (scored.score, scored.field_scores) == (1.0, {"a": 1.0, "b": None})
    assert "1 of 2 fields scored" in scored.reason
    only = score_row(row("gpt_4o_as_judge", parser="dummy"))
    assert (only.score, only.reason) == (None, "needs a judge")


def test_auxiliary_metrics_see_the_whole_answer():
    aux = row("exact_str_match", {"a": "1"}, "{'a': '1'}", "json")
    aux["metric_config"] |= {"global_aux_metrics": {"all": "dict_equality"}}
    aux["metric_config"]["aggregation"]["field_weights"]["all"] = 3
    assert score_row(aux).field_scores == {"a": 1.0, "all": 1.0}


def test_uncounted_queries_are_marked():
    assert score_row(row("positive_int_match", "0", "Answer: 0")).score == -1.0


@pytest.mark.parametrize("column", ["gold", "metric_config", "response"])
def test_bad_rows_are_unscored_with_a_reason(column):
    for value in (None, 5, "no dictionary {", []):
        if column == "response" and isinstance(value, str):
            continue
        scored = score_row({**row(), column: value})
        assert scored.score is None
        assert column in scored.reason


def test_reasoning_profile_takes_the_asked_format_and_gives_nothing_for_silence():
    tagged = "<think>perhaps Answer: B</think>\n<answer>A</answer>"
    assert score_row(row(response=tagged), profile="reasoning").score == 1.0
    assert score_row(row("general_single_numerical_match", "5", "so \\boxed{5}"), profile="reasoning").score == 1.0
    silent = row("set_precision", "[1]", "")
    assert score_row(silent, profile="official").score == 1.0
    for response in ("", "   ", "<think>hm</think>", "Answer:", "**"):
        scored = score_row({**silent, "response": response}, profile="reasoning")
        assert (scored.score, scored.reason) == (0.0, "no answer"), response
    assert score_row(row("set_equality", "[1, 2]", "<answer>[2, 1]</answer>"), profile="reasoning").score == 1.0


def test_missing_answers_and_what_quirks_give_for_them_are_counted():
    def counted(metric, gold, response, profile="official", parser="answer_string"):
        one = row(metric, gold, response)
        one["metric_config"] |= {"response_parse_function": parser}
        scored = score_row(one, profile=profile)
        return scored.score, dict(scored.metrics)

    assert counted("set_precision", "[1]", "") == (1.0, {"no_answer": 1.0, "free_credit": 1.0})
    assert counted("set_precision", "[1]", "Answer: [1]") == (1.0, {"no_answer": 0.0, "free_credit": 0.0})
    assert counted("exact_str_match", "A", "Answer:") == (0.0, {"no_answer": 1.0, "free_credit": 0.0})
    assert counted("exact_str_match", "A", "Answer: B") == (0.0, {"no_answer": 0.0, "free_credit": 0.0})
    lost, metrics = counted("exact_str_match", "A", "A", parser="json")
    assert metrics == {"no_answer": 1.0, "free_credit": 0.0}, "no JSON object; the whole response stands for the field"
    assert lost == 1.0, "and earns what it earns: it says something"
    assert counted("set_precision", "[1]", "", "reasoning") == (0.0, {"no_answer": 1.0})
    assert counted("set_precision", "[1]", "<answer>[1]</answer>", "reasoning") == (1.0, {"no_answer": 0.0})
    assert score_row({**row(), "gold": None}).metrics == {}, "nothing to count where there is no score"


METRICS = sorted(ANSWER_METRICS) + sorted(CONTEXT_METRICS)
CONTEXT = {
    "symbolic_planning_test": {
        "domain_pddl": "(define (:action a :parameters (?x) :precondition (p ?x) :effect (q ?x))"
        "(:action b :parameters (?x) :precondition (q ?x) :effect (and (not (q ?x)))))",
        "task_pddl": "(define (:init (p o)) (:goal (and (q o))))",
    },
    "constrained_generation": {"contain": "[cat]", "length1": ">3", "syllables": "5"},
    "xml_norm_point_in_bbox": {"bounding_boxes": ["(0, 0, 1, 1)"]},
}
TRAPS = [
    *CORPUS,
    "Answer: __import__('os').system('touch hacked')",
    "Answer: (lambda: open('hacked', 'w'))()",
    "Answer: 9**9**9",
    "Answer: 10^{10^{10^{10}}}",
    "Answer: \\boxed{" + "a" * 5_000,
    "Answer: " + "(" * 3_000 + "1" + ")" * 3_000,
    "Answer: [" + "'\\u202e', " * 5_000,
    "<point>" * 5_000,
    "<box>" * 5_000 + "</box>",
    "Answer: " + "{'a': " * 500 + "1" + "}" * 500,
    "Answer: {" + "[" * 2_000 + "}",
    "Answer: [1e400, NaN, Infinity, -Infinity]",
    "Answer: " + "1+" * 10_000 + "1",
    "Answer: " + " " * 20_000 + ".",
    "Answer: " + "x^" * 2_000 + "2",
    "Answer: " + "|x" * 400,
    "Answer: " + "\\sqrt{" * 300 + "2" + "}" * 300,
    "```" * 3_000,
    "Answer: ```" + " \n" * 10_000,
    "(a ?x,?x)\n" * 2_000,
    "(a " + "?x," * 3_000 + ")",
    'Answer: ""or round(1,-10**7)',
    'Answer: ""or "%300000000d"%1',
    "Answer: {" + "a}{" * 60_000,
]


@pytest.mark.parametrize("metric", METRICS)
def test_hostile_answers_are_scored_quickly_and_harm_nothing(metric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gold = "x^2+1" if "latex" in metric else "[1, 2]"
    score_row(row(metric, gold, "Answer: 1", eval_context=CONTEXT.get(metric, {})))  # loads word lists
    for trap in TRAPS:
        for parser in ("answer_string", "dummy", "json"):
            started = time.process_time()
            scored = score_row(row(metric, gold, trap, parser, eval_context=CONTEXT.get(metric, {})))
            assert time.process_time() - started < 5.0, (trap[:50], parser)  # far above what is measured
            assert scored.score is None or -1 <= scored.score <= 1
            encode_scored(scored)
    assert not list(tmp_path.iterdir())
    assert score_row(row()).score == 1.0


@pytest.mark.parametrize("parser", ["answer_string", "json", "dummy", "ascii_answer_string", "verbatim_answer_string"])
@pytest.mark.parametrize("filler", ["a", " ", "\n", "{", "[", "}", "*", "`", "Answer:", '"', "\\", "'", "\x00", "[{"])
def test_ten_megabytes_are_parsed_in_linear_time(parser, filler):
    text = "Answer: " + filler * (10_000_000 // len(filler))
    started = time.process_time()
    scored = score_row(row("set_equality", "[1]", text, parser))
    assert time.process_time() - started < 5.0
    assert scored.score == 0.0


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=8), max_size=12), st.sampled_from(METRICS))
def test_any_text_gets_a_score(parts, metric):
    scored = score_row(row(metric, "[1, 2]", "".join(parts), eval_context=CONTEXT.get(metric, {})))
    assert scored.score is None or -1 <= scored.score <= 1
    json.loads(encode_scored(scored))


def test_scores_do_not_depend_on_the_hash_seed():
    program = (
        "import json, sys\n"
        "from specs_eval.tasks.megabench.rows import score_row\n"
        "rows = json.load(sys.stdin)\n"
        "print([ (score_row(r).score, score_row(r).extracted) for r in rows])"
    )
    rows = [
        row(metric, "['b', 'a']", answer)
        for metric in (
            "exact_str_match",
            "sequence_equality",
            "jaccard_index",
            "simple_str_match",
            "dict_jaccard_agg_jaccard",
        )
        for answer in ("Answer: {'b', 'a', 'c'}", "Answer: {'x': {'q', 'r', 's'}}", "Answer: ['b', 'a']")
    ]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(rows),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(outputs) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded outputs are not here")
def test_recorded_rows_score_as_officially():
    for module in ("rapidfuzz", "unidecode", "jieba"):
        pytest.importorskip(module)
    different, n = [], 0
    with (SHARED / "megabench.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            recorded = json.loads(line)
            if recorded["metric"] == "program_judge":
                continue
            scored = score_row(recorded)
            n += 1
            if scored.score is None or abs(scored.score - recorded["official_score"]) > 1e-6:
                different.append(recorded["sample_id"])
    assert n > 4_900
    assert different == []
