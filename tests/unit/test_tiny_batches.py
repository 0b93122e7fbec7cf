"""From examples to tensors: augmentation keeps labels, encoding agrees with the processor, loss is on responses only."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from specs_eval.chat import ImagePart, user_chat
from specs_eval.task import Sample
from specs_eval.training.tiny.architecture import build_model, build_processor
from specs_eval.training.tiny.batches import IGNORED, Collator, ImageBank, loss_of
from specs_eval.training.tiny.corpus import Example
from specs_eval.training.tiny.loop import Schedule, train

BOXES = {"a": (10, 20, 25, 40), "b": (0, 0, 63, 5), "c": (50, 60, 63, 63)}
PROCESSOR = build_processor(["What color is the circle?\nAnswer with one word.", "<think>a teal circle.</think>"])


def picture(box: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", (64, 64), (240, 250, 245))
    ImageDraw.Draw(image).rectangle(box, fill=(0, 128, 128))
    return image


SAMPLES = [
    Sample(group, user_chat(ImagePart(picture(box)), "What color?"), "teal", group=group)
    for group, box in BOXES.items()
]
EXAMPLES = [
    Example(SAMPLES[0], "What color is the circle?\nAnswer with one word.", "teal", "direct"),
    Example(SAMPLES[1], "Is it?", "<think>a teal circle.</think>", "x"),
    Example(SAMPLES[2], "What color?", "a", "x"),
]


def test_images_are_given_as_they_are_without_a_generator() -> None:
    taken = ImageBank(SAMPLES).take(["c", "a"])
    for image, group in zip(taken, ("c", "a"), strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(picture(BOXES[group])))


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("group", list(BOXES))
def test_moved_shapes_stay_whole(group: str, rotate: bool) -> None:
    bank, rng = ImageBank(SAMPLES), random.Random(0)
    left, top, right, bottom = BOXES[group]
    size = (bottom - top + 1, right - left + 1)
    positions, sizes = set(), set()
    for _ in range(60):
        shape = bank.take([group], rng, rotate)[0, 0] == 0
        rows, columns = torch.nonzero(shape.any(dim=1)).flatten(), torch.nonzero(shape.any(dim=0)).flatten()
        found = (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
        assert int(shape.sum()) == size[0] * size[1] == found[0] * found[1]
        positions.add((int(rows[0]), int(columns[0])))
        sizes.add(found)
    assert len(positions) > 10
    assert sizes == ({size, size[::-1]} if rotate else {size})


def test_an_image_without_a_shape_is_left_alone() -> None:
    plain = Sample("p", user_chat(ImagePart(Image.new("RGB", (64, 64), "white")), "?"), "yes", group="p")
    assert torch.equal(ImageBank([plain]).take(["p"], random.Random(0))[0], torch.full((3, 64, 64), 255).byte())


def test_batches_are_what_the_processor_makes_of_prompt_and_response() -> None:
    bank = ImageBank(SAMPLES)
    batch = Collator(PROCESSOR).collate(EXAMPLES, bank.take(["a", "b", "c"]))
    chats = []
    for example in EXAMPLES:
        content = [{"type": "image"}, {"type": "text", "text": example.prompt}]
        prompt = PROCESSOR.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        chats.append(f"{prompt}{example.response}<|im_end|>")
    expected = PROCESSOR(text=chats, images=[picture(box) for box in BOXES.values()], padding=True, return_tensors="pt")
    assert set(batch) == {*expected, "labels"}
    for name, value in expected.items():
        assert torch.equal(batch[name].to(value.dtype), value), name
    for row, example in enumerate(EXAMPLES):
        labels = batch["labels"][row]
        learned = labels[labels != IGNORED]
        assert PROCESSOR.tokenizer.decode(learned) == f"{example.response}<|im_end|>"
        assert torch.equal(labels[-len(learned) :], batch["input_ids"][row, -len(learned) :])


def test_loss_is_the_mean_over_all_response_tokens() -> None:
    model = build_model(PROCESSOR.tokenizer, seed=0).eval()
    batch = Collator(PROCESSOR).collate(EXAMPLES, ImageBank(SAMPLES).take(["a", "b", "c"]))
    with torch.no_grad():
        loss = loss_of(model, batch)
        logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    naive = [
        -float(logits[row, position - 1].log_softmax(dim=-1)[label])
        for row, labels in enumerate(batch["labels"])
        for position, label in enumerate(labels.tolist())
        if label != IGNORED
    ]
    assert float(loss) == pytest.approx(sum(naive) / len(naive), rel=1e-5)


def test_schedule_warms_up_and_decays() -> None:
    schedule = Schedule(steps=100, learning_rate=1.0, warmup=10, floor=0.1)
    rates = [schedule.at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert Schedule(10, 0.5, warmup=1, floor=1.0).at(9) == 0.5


def test_training_learns_a_batch_by_heart_and_ends_in_eval_mode() -> None:
    model = build_model(PROCESSOR.tokenizer, seed=0)
    batch = Collator(PROCESSOR).collate(EXAMPLES, ImageBank(SAMPLES).take(["a", "b", "c"]))
    losses = [value for _, value in train(model, Schedule(30, 5e-3, warmup=1), lambda: loss_of(model, batch))]
    assert len(losses) == 30
    assert losses[-1] < 0.2 * losses[0]
    assert not model.training


def test_bank_knows_each_group_once() -> None:
    assert Counter(ImageBank([*SAMPLES, *SAMPLES]).index) == Counter({"a": 0, "b": 1, "c": 2})
