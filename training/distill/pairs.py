"""From candidates to pairs: which rollout, which pollution, which side of the split. All of it follows from the seed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specs_eval.training.distill.candidates import Candidate, Harvest
from specs_eval.training.distill.pollution import POLLUTIONS, Pollution, pollute
from specs_eval.training.distill.settings import Counts, DistillSettings
from specs_eval.training.questions.question import Question

SPLITS = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Pair:
    """A chosen and a rejected response to one question."""

    question: Question
    chosen: str
    rejected: str
    chosen_rollout: int
    rejected_rollout: int
    """The rollout whose reasoning and answer the rejected response has."""
    pollution: Pollution


def build_pairs(found: Harvest, settings: DistillSettings, counts: Counts) -> dict[str, list[Pair]]:
    """The pairs of each split, in a random order, balanced over pollutions as far as each applies.

    Args:
        found: candidates by question.
        settings: how.
        counts: gets what was dropped and, under ``pairs``, what came of it.
    """
    drafts = list(_drafts(found, settings, counts))
    drafts.sort(key=lambda draft: draw(settings.seed, "order", draft[0].question.question_id, str(draft[0].rollout)))
    if settings.max_pairs is not None:
        counts.questions["pairs over the limit"] = max(0, len(drafts) - settings.max_pairs)
        drafts = drafts[: settings.max_pairs]
    held_out = _held_out([chosen.question for chosen, _ in drafts], settings)
    pairs: dict[str, list[Pair]] = {}
    for split in SPLITS:
        side = [draft for draft in drafts if (draft[0].question.question_id in held_out) == (split == "validation")]
        pairs[split] = _polluted(side, settings, counts)
        counts.pairs[split] = Counter(dict.fromkeys(POLLUTIONS, 0))
        counts.pairs[split].update(pair.pollution for pair in pairs[split])
    return pairs


def draw(seed: int, *about: str) -> int:
    """A number that looks random and depends on nothing but the seed and what it is about."""
    return int.from_bytes(hashlib.sha256("\0".join((str(seed), *about)).encode("utf-8", "replace")).digest()[:8], "big")


def _drafts(found: Harvest, settings: DistillSettings, counts: Counts) -> Iterator[tuple[Candidate, Candidate]]:
    """(chosen, what the rejected is made of): the same response, or a wrong one where data are coupled."""
    for question_id, candidates in found.chosen.items():
        chosen = _shuffled(candidates, settings, "chosen")[: settings.pairs_per_question]
        if settings.data == "decoupled":
            yield from ((candidate, candidate) for candidate in chosen)
            continue
        wrong = _shuffled(found.wrong[question_id], settings, "wrong")
        if not wrong:
            counts.questions["no wrong rollout to reject"] += 1
        yield from zip(chosen, wrong, strict=False)


def _shuffled(candidates: Sequence[Candidate], settings: DistillSettings, what: str) -> list[Candidate]:
    return sorted(candidates, key=lambda one: draw(settings.seed, what, one.question.question_id, str(one.rollout)))


def _polluted(drafts: Sequence[tuple[Candidate, Candidate]], settings: DistillSettings, counts: Counts) -> list[Pair]:
    """Each draft with the pollution that is rarest so far among those that apply to it."""
    pairs: list[Pair] = []
    seen: set[tuple[str, str, str]] = set()
    used: Counter[Pollution] = Counter()
    for chosen, rejected in drafts:
        number = draw(settings.seed, "pollution", chosen.question.question_id, str(chosen.rollout))
        first = number % len(POLLUTIONS)
        turned = (*POLLUTIONS[first:], *POLLUTIONS[:first])
        for pollution in sorted(turned, key=lambda kind: used[kind]):
            text = pollute(pollution, rejected.reasoning, rejected.answer, number // len(POLLUTIONS))
            if text is not None:
                break
        else:
            counts.questions["no pollution applies"] += 1
            continue
        pair = Pair(chosen.question, chosen.text, text, chosen.rollout, rejected.rollout, pollution)
        key = (chosen.question.question_id, pair.chosen, pair.rejected)
        if key in seen:
            counts.questions["pairs that occur twice"] += 1
            continue
        seen.add(key)
        used[pollution] += 1
        pairs.append(pair)
    return pairs


def _held_out(questions: Sequence[Question], settings: DistillSettings) -> set[str]:
    """Ids of the questions for validation: whole clusters, as many as fit into the share; something stays to train on."""
    members: dict[str, list[str]] = {}
    root = clusters(questions)
    for question in questions:
        members.setdefault(root[question.question_id], []).append(question.question_id)
    room, held_out = min(round(settings.validation_share * len(questions)), len(questions) - 1), set[str]()
    for cluster in sorted(members, key=lambda name: draw(settings.seed, "split", name)):
        if len(members[cluster]) <= room:
            room -= len(members[cluster])
            held_out.update(members[cluster])
    return held_out


def clusters(questions: Sequence[Question]) -> dict[str, str]:
    """Question id -> name of its cluster: questions that share an image or a group, directly or over others."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for question in questions:
        own = find(f"question {question.question_id}")
        links = [f"image {image.digest}" for image in question.images]
        for link in [*links, *([f"group {question.group}"] if question.group else [])]:
            first, second = sorted((find(own), find(link)))
            parent[second] = first
    return {question.question_id: find(f"question {question.question_id}") for question in questions}


def without_duplicates(questions: Sequence[Question]) -> tuple[list[Question], int]:
    """The questions without those that ask the same about the same images, and how many those were."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for question in questions:
        key = (question.stem.casefold(), *question.choices, *(image.digest for image in question.images))
        if key not in seen:
            seen.add(key)
            kept.append(question)
    return kept, len(questions) - len(kept)
