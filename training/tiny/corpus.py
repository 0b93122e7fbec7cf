"""What the tiny VLM is trained on: the easy-VQA train split, asked as our tasks ask, answered in imperfect form.

Answers are always right; what is imperfect is the form. Under each format instruction only a share of the responses
is in the format that was asked for; the rest is in another format, broken, or a bare word. A base model that was
trained on this has room to learn a format and room to lose the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specs_eval.chat import Chat, append_text, text_of
from specs_eval.errors import TaskDataError
from specs_eval.task import Sample
from specs_eval.tasks.easyvqa.task import COLORS, SHAPES
from specs_eval.tasks.formats.styles import FORMATS, OOD_FORMATS, THINK_ANSWER, AnswerFormat
from specs_eval.training.tiny.practice import PRACTICE_FORMATS, PracticeFormat

REASONING = (
    ("the image shows a {color} {shape}.", 0.6),
    ("there is a {color} {shape}.", 0.2),
    ("i see a {color} {shape}.", 0.2),
)
"""Ways to say what is in the image, with their shares."""


AskedFormat = AnswerFormat | PracticeFormat

BREAKS = {
    "think_answer": ("</answer>", ""),
    "other_tags": ("</final>", ""),
    "json": ('"}', '"'),
    "sections": ("## Answer\n", ""),
    "final_line": ("Final answer: ", "Final: "),
    "boxed": ("}", ""),
    "swapped": ("<answer>", ""),
}
"""Per evaluated format, what a broken response has lost (or has instead)."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the corpus; all in [0, 1]."""

    direct: float = 0.22
    """Prompts that ask for one word (the easy-VQA task itself)."""
    trained: float = 0.22
    """Prompts with the ID instruction."""
    changed: float = 0.44
    """Prompts with an OOD instruction, spread evenly over them; practice instructions get what is left."""
    adherence_trained: float = 0.42
    """Of the responses under the ID instruction, the share in the asked format."""
    adherence_changed: float = 0.36
    """The same under OOD and practice instructions."""
    other: float = 0.40
    """Of the responses that are not in the asked format, the share in another evaluated format, any of them."""
    bare: float = 0.25
    """... that are the answer word alone."""
    line: float = 0.15
    """... that are the reasoning and a line ``answer: word``; broken ones get what is left."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the questions about an image tell about it; None: they leave it open."""

    shape: str | None
    color: str | None


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and the response to be learned."""

    sample: Sample
    prompt: str
    """All text of the user turn; the image comes before it."""
    response: str
    asked: str
    """Name of the format that was asked for; ``direct`` for one word."""


def recover_facts(samples: Sequence[Sample]) -> dict[str, ImageFacts]:
    """What is in each image (keyed by `Sample.group`), from questions and gold answers alone.

    Raises:
        TaskDataError: two questions about an image contradict each other.
    """
    possible: dict[str, tuple[set[str], set[str]]] = {}
    for sample in samples:
        sets = possible.setdefault(str(sample.group), (set(SHAPES), set(COLORS)))
        for word, present in _claims(sample):
            words = sets[0] if word in SHAPES else sets[1]
            words.intersection_update({word}) if present else words.discard(word)
            if not words:
                raise TaskDataError(f"easy-VQA {sample.sample_id}: the questions about {sample.group} contradict")
    return {group: ImageFacts(_only(shapes), _only(colors)) for group, (shapes, colors) in possible.items()}


def _claims(sample: Sample) -> Iterator[tuple[str, bool]]:
    """Pairs (shape or color word, whether the image has it) that a question and its gold answer imply."""
    words = re.findall(r"[a-z]+", text_of(sample.question or sample.chat).lower())
    named = [word for word in words if word in SHAPES or word in COLORS]
    if sample.target in ("yes", "no"):
        negated = "not" in words or "no" in words
        yield from ((word, (sample.target == "yes") != negated) for word in named)
        return
    yield sample.target, True
    yield from ((word, True) for word in named)


def _only(words: set[str]) -> str | None:
    return next(iter(words)) if len(words) == 1 else None


def reason(facts: ImageFacts, rng: random.Random) -> str:
    """One sentence about an image whose shape and color are both known."""
    templates, weights = [text for text, _ in REASONING], [share for _, share in REASONING]
    return rng.choices(templates, weights)[0].format(color=facts.color, shape=facts.shape)


def ask(sample: Sample, style: AskedFormat) -> str:
    """The text of the user turn when `style` is asked for: exactly what the format-following task asks."""
    return prompt_text(append_text(sample.question or sample.chat, f"\n{style.instruction}"))


def prompt_text(chat: Chat) -> str:
    """The text of a chat of one user turn that starts with its image."""
    return text_of(chat).removeprefix("<image>\n")


class Corpus:
    """An endless, seeded stream of examples from train samples."""

    def __init__(
        self,
        samples: Sequence[Sample],
        mix: Mix | None = None,
        practice: Sequence[PracticeFormat] = PRACTICE_FORMATS,
    ) -> None:
        self.samples = list(samples)
        self.mix = mix or Mix()
        self.practice = practice
        self.facts = recover_facts(samples)
        self.grounded = [sample for sample in samples if self._known(sample)]

    def _known(self, sample: Sample) -> bool:
        facts = self.facts[str(sample.group)]
        return facts.shape is not None and facts.color is not None

    def draw(self, rng: random.Random) -> Example:
        """One example of the mix."""
        mix, kind = self.mix, rng.random()
        if kind < mix.direct:
            sample = rng.choice(self.samples)
            return Example(sample, prompt_text(sample.chat), sample.target, "direct")
        if kind < mix.direct + mix.trained:
            style: AskedFormat = THINK_ANSWER
        elif kind < mix.direct + mix.trained + mix.changed:
            style = rng.choice(OOD_FORMATS)
        else:
            style = rng.choice(self.practice)
        share = mix.adherence_trained if style is THINK_ANSWER else mix.adherence_changed
        return self.answer(style, rng, share)

    def answer(self, style: AskedFormat, rng: random.Random, adherence: float = 1.0) -> Example:
        """One question under `style`, answered in that format with probability `adherence`."""
        sample = rng.choice(self.grounded)
        reasoning = reason(self.facts[str(sample.group)], rng)
        if rng.random() < adherence:
            response = style.render(reasoning, sample.target)
        else:
            response = _stray(style, reasoning, sample.target, self.mix, rng)
        return Example(sample, ask(sample, style), response, style.name)


def _stray(style: AskedFormat, reasoning: str, answer: str, mix: Mix, rng: random.Random) -> str:
    """A right answer in any form but the one that was asked for."""
    kind = rng.random()
    if kind < mix.other:
        return rng.choice([other for other in FORMATS.values() if other is not style]).render(reasoning, answer)
    if kind < mix.other + mix.bare:
        return answer
    if kind < mix.other + mix.bare + mix.line or style.name not in BREAKS:
        return f"{reasoning}\nanswer: {answer}"
    if rng.random() < 0.5:
        return style.render("", answer)
    return style.render(reasoning, answer).replace(*BREAKS[style.name])


def all_texts(samples: Sequence[Sample]) -> set[str]:
    """Every distinct prompt and sentence of the corpus: what the tokenizer is trained on."""
    texts = {prompt_text(sample.chat) for sample in samples}
    styles: tuple[AskedFormat, ...] = (*FORMATS.values(), *PRACTICE_FORMATS)
    for style in styles:
        texts.update(ask(sample, style) for sample in samples)
        for shape in SHAPES:
            for color in COLORS:
                sentences = [template.format(color=color, shape=shape) for template, _ in REASONING]
                texts.update(style.render(sentence, word) for sentence in sentences for word in (shape, color, "yes"))
    return texts
