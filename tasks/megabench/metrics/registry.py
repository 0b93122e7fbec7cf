"""The official metric names and what computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from specs_eval.tasks.megabench.literals import LITERAL_ERRORS
from specs_eval.tasks.megabench.metrics import (
    boxes,
    constrained,
    latex_equality,
    numbers_in,
    numerical,
    overlap,
    planning,
    strings,
)
from specs_eval.tasks.megabench.metrics import collections_of as collections

Metric = Callable[[Any, Any], float]

METRIC_ERRORS = (*LITERAL_ERRORS, ArithmeticError, AssertionError, AttributeError, LookupError)
"""What a metric raises on an answer of another kind than it expects; such an answer scores 0, as it does officially."""

ANSWER_METRICS: dict[str, Metric] = {
    "exact_str_match": strings.exact,
    "simple_str_match": strings.simple,
    "code_result_exact_str_match": strings.code_result,
    "exact_str_match_case_insensitive": strings.exact_ignoring_case,
    "multi_ref_phrase": strings.any_reference,
    "near_str_match": strings.near,
    "normalized_similarity_damerau_levenshtein": strings.edit_similarity,
    "number_rel_diff_ratio": numbers_in.relative_closeness,
    "positive_int_match": numbers_in.positive_count,
    "normalized_rmse": numbers_in.closeness_of_numbers,
    "angle_seq_float_rmse": numbers_in.closeness_of_angles,
    "general_single_numerical_match": numerical.general,
    "boxed_single_numerical_match": numerical.boxed,
    "set_equality": collections.set_equality,
    "set_equality_case_insensitive": collections.set_equality_ignoring_case,
    "str_set_equality_line_break": collections.line_set_equality,
    "str_set_equality_comma": collections.comma_set_equality,
    "set_precision": collections.set_precision,
    "jaccard_index": collections.jaccard,
    "jaccard_index_case_insensitive": collections.jaccard_ignoring_case,
    "chess_move_list_jaccard_index": collections.chess_jaccard,
    "sequence_equality": collections.sequence_equality,
    "sequence_equality_case_insensitive": collections.sequence_equality_ignoring_case,
    "sequence_accuracy_case_insensitive": collections.sequence_accuracy,
    "longest_common_list_prefix_ratio": collections.common_prefix_share,
    "dict_equality": collections.dict_equality,
    "dict_precision": collections.dict_precision,
    "dict_exact_str_match_agg_recall": collections.dict_recall,
    "dict_jaccard_agg_jaccard": collections.dict_jaccard,
    "dict_set_equality_agg_jaccard": collections.dict_set_equality,
    "dict_nbbox_iou_tuple_agg_jaccard": collections.dict_overlap,
    "nbbox_iou_tuple": boxes.mean_best_overlap,
    "nbbox_iou_single": boxes.single_overlap,
    "nbbox_iou_sequence": boxes.sequence_overlap,
    "xml_nbbox_iou_single": boxes.xml_overlap,
    "xml_norm_point_distance": boxes.point_closeness,
    "sequence_coords_similarity": boxes.keypoint_similarity,
    "latex_expr_equality": latex_equality.expression_equality,
    "text_with_latex_expr_equality": latex_equality.text_equality,
    "bleu": overlap.bleu,
    "gleu_cn": overlap.chinese_gleu,
}
"""Metrics of (answer, gold answer)."""

CONTEXT_METRICS: dict[str, Metric] = {
    "xml_norm_point_in_bbox": boxes.point_in_box,
    "symbolic_planning_test": planning.reaches_goal,
    "constrained_generation": constrained.satisfies,
}
"""Metrics of (answer, evaluation context)."""

ASCII_ART_METRIC = "ascii_art_gpt4o_judge"
JUDGE_METRICS = frozenset(("gpt_4o_as_judge", ASCII_ART_METRIC))

PROGRAM_METRIC = "program_judge"

UNSCORED_METRICS = {"nli_entailment": "an entailment model", "geo_proximity_location_dict": "a map service"}
"""Metrics that no rule can replace, and what they need."""
