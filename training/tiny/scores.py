"""Scores of a tiny checkpoint on easy-VQA test questions, with plain `generate`: what a recipe records about itself.

Not the way to evaluate checkpoints (that is ``specs-eval run``): it exists so that the recipe depends on transformers
alone, and so that a rebuilt checkpoint can be compared with the recorded scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from specs_eval.chat import TextPart, images_of
from specs_eval.task import Sample, Task
from specs_eval.tasks.easyvqa.task import EasyVQA
from specs_eval.tasks.formats.styles import OOD_FORMATS, THINK_ANSWER
from specs_eval.tasks.formats.task import FormatTask


@dataclass(frozen=True, slots=True)
class Share:
    """A share in [0, 1] and the number of responses that it is of."""

    value: float
    n: int


@dataclass(frozen=True, slots=True)
class Scores:
    """What a checkpoint does on the first questions of the test split."""

    direct_greedy: Share
    """easy-VQA accuracy, greedy."""
    direct_sampled: Share
    """easy-VQA accuracy at T = 1."""
    id_format: Share
    """Responses at T = 1 under the ID instruction that are in the ID format."""
    id_accuracy: Share
    ood_format: Share
    """The same for OOD instructions, each in its own format, mean over formats."""
    ood_accuracy: Share
    ood_lock_in: Share
    """Responses under OOD instructions that are in the ID format."""
    by_format: Mapping[str, Share]
    """`ood_format` by format."""

    def to_dict(self) -> dict[str, object]:
        """As plain JSON types."""
        return asdict(self)


class _FirstQuestions(EasyVQA):
    """The first test questions as a task: a format-following task asks every question of its base."""

    def __init__(self, n_questions: int) -> None:
        super().__init__("test")
        self._n_questions = n_questions

    def samples(self) -> Sequence[Sample]:
        return super().samples()[: self._n_questions]


def respond(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    samples: Sequence[Sample],
    max_new_tokens: int,
    seed: int | None = None,
    batch_size: int = 64,
) -> list[str]:
    """One response a sample: greedy without a seed, else drawn at T = 1 from the full distribution."""
    texts: list[str] = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        if seed is not None:
            torch.manual_seed(seed)
        for start in range(0, len(samples), batch_size):
            batch = _inputs(processor, samples[start : start + batch_size])
            sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if seed is not None else {}
            ids = model.generate(**batch, max_new_tokens=max_new_tokens, **sampling)
            new = ids[:, batch["input_ids"].shape[1] :]
            texts += processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


def _inputs(processor: Qwen2_5_VLProcessor, samples: Sequence[Sample]) -> Mapping[str, torch.Tensor]:
    prompts = []
    for sample in samples:
        turns = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
                    for part in message.parts
                ],
            }
            for message in sample.chat
        ]
        prompts.append(processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
    images = [part.load() for sample in samples for part in images_of(sample.chat)]
    inputs: Mapping[str, torch.Tensor] = processor(text=prompts, images=images, padding=True, return_tensors="pt")
    return inputs


def measure(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    n_questions: int = 300,
    n_direct: int = 1000,
    seed: int = 0,
) -> Scores:
    """Measure a model on the first test questions.

    Args:
        model: in eval mode.
        processor: of the model.
        n_questions: questions asked under the ID and each OOD instruction.
        n_direct: questions asked for one word.
        seed: of sampling.
    """
    base, few = EasyVQA("test"), _FirstQuestions(n_questions)
    trained, changed = FormatTask("id", few, [THINK_ANSWER]), FormatTask("ood", few, OOD_FORMATS)
    direct = base.samples()[:n_direct]
    greedy = _metrics(base, direct, respond(model, processor, direct, base.max_new_tokens))
    sampled = _metrics(base, direct, respond(model, processor, direct, base.max_new_tokens, seed))
    asked = trained.samples()
    known = _metrics(trained, asked, respond(model, processor, asked, trained.max_new_tokens, seed))
    moved = changed.samples()
    new = _metrics(changed, moved, respond(model, processor, moved, changed.max_new_tokens, seed))
    by_format = {
        style.name: _share(
            [row for row, sample in zip(new, moved, strict=True) if sample.category["format"] == style.name], "format"
        )
        for style in OOD_FORMATS
    }
    return Scores(
        direct_greedy=_share(greedy, "score"),
        direct_sampled=_share(sampled, "score"),
        id_format=_share(known, "format"),
        id_accuracy=_share(known, "accuracy"),
        ood_format=_share(new, "format"),
        ood_accuracy=_share(new, "accuracy"),
        ood_lock_in=_share(new, "lock_in"),
        by_format=by_format,
    )


def _metrics(task: Task, samples: Sequence[Sample], responses: Sequence[str]) -> list[dict[str, float]]:
    scores = [task.score(sample, response) for sample, response in zip(samples, responses, strict=True)]
    return [{"score": score.score or 0.0, **score.metrics} for score in scores]


def _share(rows: Sequence[Mapping[str, float]], metric: str) -> Share:
    return Share(sum(row[metric] for row in rows) / len(rows), len(rows))
