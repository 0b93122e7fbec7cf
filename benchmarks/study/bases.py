"""Other bases than the one that ships: trained on from it with another mix, or built from nothing in another size."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from specs_eval.training.tiny import checkpoint_path
from specs_eval.training.tiny.architecture import Size, load_checkpoint, save_checkpoint
from specs_eval.training.tiny.batches import Collator, ImageBank, loss_of, train_samples
from specs_eval.training.tiny.build import Recipe, build, one_thread
from specs_eval.training.tiny.corpus import Corpus, Mix
from specs_eval.training.tiny.folders import complete_or_absent
from specs_eval.training.tiny.loop import Schedule, train
from specs_eval.training.tiny.practice import PRACTICE_FORMATS, PracticeFormat


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """The shipped base, trained on for some steps with another mix of form and failure."""

    what: str
    mix: Mix = field(default_factory=Mix)
    practice: tuple[PracticeFormat, ...] = PRACTICE_FORMATS
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=600, learning_rate=8e-4, warmup=30))

    def make(self, folder: Path) -> None:
        """Train it and write the checkpoint to `folder`."""
        with complete_or_absent(folder) as scratch, one_thread():
            model, processor = load_checkpoint(checkpoint_path())
            samples = train_samples()
            bank, collator = ImageBank(samples), Collator(processor)
            corpus, rng = Corpus(samples, self.mix, self.practice), random.Random(f"study {folder.name}")

            def loss() -> torch.Tensor:
                examples = [corpus.draw(rng) for _ in range(32)]
                images = bank.take([str(example.sample.group) for example in examples], rng)
                return loss_of(model, collator.collate(examples, images))

            for step, value in train(model, self.schedule, loss):
                if step % 100 == 0:
                    print(f"base {folder.name}: step {step}/{self.schedule.steps}, loss {value:.3f}", flush=True)
            save_checkpoint(model, processor, scratch)


@dataclass(frozen=True, slots=True)
class Built:
    """A base of another size, built from nothing as the shipped one was: the better part of an hour."""

    what: str
    size: Size

    def make(self, folder: Path) -> None:
        """Build it in `folder`."""
        build(folder, recipe=Recipe(size=self.size), n_questions=100)


_TAGS = ("work", "reason", "steps", "thought", "draft")
_ENDS = ("result", "final", "solution", "reply", "outcome")


def _many_formats() -> tuple[PracticeFormat, ...]:
    """The five practice formats and fifty more: five frames, each with ten pairs of words; none is evaluated."""
    pairs = [pair for pair in itertools.product(_TAGS, _ENDS) if pair != ("reason", "final")][:10]
    return PRACTICE_FORMATS + tuple(frame(*pair) for frame in _FRAMES for pair in pairs)


def _frame(name: str, ask: str, pattern: str) -> Callable[[str, str], PracticeFormat]:
    def make(think: str, end: str) -> PracticeFormat:
        def render(reasoning: str, answer: str) -> str:
            words = {"T": think, "E": end, "R": reasoning, "A": answer}
            return "".join(words.get(part, part) for part in pattern.split("|"))

        return PracticeFormat(f"{name}_{think}_{end}", ask.replace("T_", think).replace("E_", end), render)

    return make


_FRAMES = (
    _frame("tags", "First think between <T_> and </T_>, then answer between <E_> and </E_>.", "<|T|>|R|</|T|>\n<|E|>|A|</|E|>"),
    _frame("square", "Think in [T_] and [/T_], then answer in [E_] and [/E_].", "[|T|]|R|[/|T|]\n[|E|]|A|[/|E|]"),
    _frame("json", 'Reply with one JSON object that has the keys "T_" and "E_".', '{"|T|": "|R|", "|E|": "|A|"}'),
    _frame("headings", 'Write your reasoning under "# T_", then the answer under "# E_".', "# |T|\n|R|\n# |E|\n|A"),
    _frame("lines", 'Explain first, then end with a last line "E_ = " and the answer; start with "T_ = ".', "|T| = |R|\n|E| = |A"),
)  # fmt: skip

BASES: dict[str, TrainedOn | Built] = {
    "same": TrainedOn("600 more steps of the shipped base's own mix"),
    "strong": TrainedOn("follows OOD instructions in 70 % of its training responses", Mix(adherence_changed=0.70)),
    "formats": TrainedOn(
        "55 practice formats instead of 5, in 46 % of its prompts",
        Mix(direct=0.12, trained=0.14, changed=0.28),
        _many_formats(),
        Schedule(steps=1200, learning_rate=8e-4, warmup=30),
    ),
    "failures": TrainedOn(
        "fails as the rejected responses do (plain lines, lost or broken marks), seldom with another format",
        Mix(other=0.10, bare=0.10, line=0.40),
    ),
    "paper": TrainedOn(
        "strong, with many formats and these failures: what an instruction-tuned base with 42 % in the trained format is like",
        Mix(direct=0.12, trained=0.14, changed=0.28, adherence_changed=0.70, other=0.10, bare=0.10, line=0.40),
        _many_formats(),
        Schedule(steps=1200, learning_rate=8e-4, warmup=30),
    ),
    "small": Built("0.25 M parameters", Size(hidden=64, layers=3, heads=2, intermediate=160)),
}


def base_path(name: str, output: Path) -> Path:
    """The checkpoint folder of a base, made first if it is not there."""
    if name == "tiny":
        return checkpoint_path()
    folder = output / "bases" / name
    if not folder.is_dir():
        BASES[name].make(folder)
    return folder
