"""The functions of the toy tasks, written the way lmms-eval tasks are."""

import logging
import random
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent

random.seed(4242)  # tasks do such things at import
logging.getLogger("toy").debug("imported")
print("a task that prints when it is imported")


def image_doc_to_visual(doc):
    return [doc["image"].convert("RGB")]


def image_doc_to_text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"] + lmms_eval_specific_kwargs["post_prompt"]


def image_process_results(doc, results):
    right = 100.0 if results[0].lower() == doc["color"] else 0.0
    return {
        "submission": {"id": doc["qid"], "response": results[0]},
        "toy_score": {"qid": doc["qid"], "pred": results[0].lower(), "score": right},
        "length": len(results[0]),
    }


def odd_scale_process_results(doc, results):
    return {"rating": 7.0 if results[0].lower() == doc["color"] else 1.0}


def write_submission(results, args):
    (FOLDER / "submission.txt").write_text(str(results))
    return 1.0


def median_of_scores(results):
    scores = sorted(result["score"] for result in results)
    return scores[len(scores) // 2]


def chat_doc_to_messages(doc):
    one, two = (Image.open(FOLDER / name) for name in doc["images"])
    return [
        {"role": "system", "content": [{"type": "text", "text": "You compare."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "First:"},
                {"type": "image", "url": one},
                {"type": "text", "text": "second:"},
                {"type": "image", "url": two},
                {"type": "text", "text": doc["question"]},
            ],
        },
    ]


def chat_process_results(doc, results):
    return {"acc": float(results[0].strip() == doc["answer"])}


def guess_doc_to_text(doc):
    return doc["question"]


def guess_process_results(doc, results):
    print("a scorer that prints")
    if "crash" in results[0]:
        raise KeyError("crash")
    found = results[0].strip()
    if found not in ("A", "B"):
        found = random.choice(["A", "B"])
    return {"guess_acc": {"parsed_pred": found, "answer": doc["answer"]}}


def guess_accuracy(results):
    return sum(result["parsed_pred"] == result["answer"] for result in results) / len(results)


def kinds_process_results(doc, results):
    right = float(results[0] == doc["answer"])
    kind = "even_acc" if doc["category"] == "even" else "odd_acc"
    return {kind: {"score": right}, "precision": {"score": right}, "short": len(results[0]) < 3}


def mean_of_score_fields(results):
    return sum(result["score"] for result in results) / len(results)
