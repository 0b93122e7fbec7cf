"""The tiny VLM as built from code: tokenizer, processor, chat template, determinism, hub format."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, Qwen2_5_VLProcessor

from specs_eval.training.tiny.architecture import (
    END,
    IMAGE_PAD,
    PAD,
    SPECIAL_TOKENS,
    START,
    VISION_END,
    VISION_START,
    build_model,
    build_processor,
    build_tokenizer,
    save_checkpoint,
)

TEXTS = ["What color is the circle?\nAnswer with one word.", "<think>the image shows a teal circle.</think>", "yes"]


@pytest.fixture(scope="module")
def processor() -> Qwen2_5_VLProcessor:
    return build_processor(TEXTS)


TOKENIZER = build_tokenizer(TEXTS)


@given(st.text(max_size=60))
def test_any_text_survives_the_tokenizer_up_to_nfc(text: str) -> None:
    ids = TOKENIZER(text.replace("<|", "< |"))["input_ids"]
    assert TOKENIZER.decode(ids) == unicodedata.normalize("NFC", text.replace("<|", "< |"))


def test_tokenizer_knows_its_special_tokens_and_pads_left() -> None:
    for token in SPECIAL_TOKENS:
        assert TOKENIZER(token)["input_ids"] == [TOKENIZER.convert_tokens_to_ids(token)]
    assert (TOKENIZER.eos_token, TOKENIZER.pad_token, TOKENIZER.padding_side) == (END, PAD, "left")
    assert TOKENIZER.decode(TOKENIZER(f"yes{END}")["input_ids"], skip_special_tokens=True) == "yes"


def test_tokenizer_does_not_depend_on_the_order_of_the_texts() -> None:
    assert build_tokenizer(reversed(TEXTS)).get_vocab() == TOKENIZER.get_vocab()


@pytest.mark.parametrize(("size", "tokens"), [((64, 64), 16), ((128, 64), 32), ((512, 512), 1024), ((8, 8), 4)])
def test_an_image_has_a_token_per_16_by_16_pixels(
    processor: Qwen2_5_VLProcessor, size: tuple[int, int], tokens: int
) -> None:
    text = f"{VISION_START}{IMAGE_PAD}{VISION_END}"
    ids = processor(text=[text], images=[Image.new("RGB", size)], return_tensors="pt")["input_ids"][0]
    assert int((ids == processor.image_token_id).sum()) == tokens


def test_chat_template_keeps_the_reading_order_of_turns_texts_and_images(processor: Qwen2_5_VLProcessor) -> None:
    chat = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image"},
                {"type": "text", "text": "b\n"},
                {"type": "image"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "c"}]},
        {"role": "user", "content": "d"},
    ]
    image = f"{VISION_START}{IMAGE_PAD}{VISION_END}"
    turns = [("system", "be brief"), ("user", f"a{image}b\n{image}"), ("assistant", "c"), ("user", "d")]
    expected = "".join(f"{START}{role}\n{text}{END}\n" for role, text in turns)
    assert processor.apply_chat_template(chat, tokenize=False) == expected
    prompt = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt == f"{expected}{START}assistant\n"


def test_several_interleaved_images_go_through_the_model(processor: Qwen2_5_VLProcessor) -> None:
    model = build_model(processor.tokenizer, seed=0).eval()
    images = [Image.new("RGB", (64, 64), color) for color in ("red", "blue", "black")]
    content: list[dict[str, Any]] = [{"type": "text", "text": "a"}]
    for image in images[:2]:
        content += [{"type": "image", "image": image}, {"type": "text", "text": " then "}]
    alone = [{"type": "image", "image": images[2]}, {"type": "text", "text": "What color?"}]
    chats = [[{"role": "user", "content": part}] for part in (content, alone)]
    inputs = processor.apply_chat_template(
        chats,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )
    assert (inputs["input_ids"] == processor.image_token_id).sum(dim=1).tolist() == [32, 16]
    assert inputs["attention_mask"][1, 0] == 0, "the shorter prompt is padded on the left"
    with torch.no_grad():
        together = model(**inputs).logits[1, -1]
        single = processor.apply_chat_template(
            chats[1], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        by_itself = model(**single).logits[0, -1]
    torch.testing.assert_close(together, by_itself, atol=1e-4, rtol=1e-4)


def test_weights_follow_the_seed_and_leave_the_global_generator_alone(processor: Qwen2_5_VLProcessor) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (build_model(processor.tokenizer, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_a_saved_checkpoint_is_an_ordinary_hub_checkpoint(processor: Qwen2_5_VLProcessor, tmp_path: Path) -> None:
    model = build_model(processor.tokenizer, seed=0)
    save_checkpoint(model, processor, tmp_path)
    assert model.dtype == torch.float32
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert loaded.dtype == torch.bfloat16
    weights = loaded.state_dict()
    assert all(torch.equal(weights[name], value.to(torch.bfloat16)) for name, value in model.state_dict().items())
    assert weights["lm_head.weight"].data_ptr() == weights["model.language_model.embed_tokens.weight"].data_ptr()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for config in (loaded.generation_config, loaded.config.text_config):
        assert config.eos_token_id == tokenizer.convert_tokens_to_ids(END)
        assert config.pad_token_id == tokenizer.convert_tokens_to_ids(PAD)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert again.tokenizer.get_vocab() == tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert (again.tokenizer.padding_side, again.chat_template) == ("left", processor.chat_template)
    image = Image.effect_noise((64, 64), 80).convert("RGB")
    text = [f"{VISION_START}{IMAGE_PAD}{VISION_END}yes"]
    one, two = (some(text=text, images=[image], return_tensors="pt") for some in (processor, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_model_stays_tiny(processor: Qwen2_5_VLProcessor) -> None:
    n_parameters = sum(parameter.numel() for parameter in build_model(processor.tokenizer, 0).parameters())
    assert 600_000 < n_parameters < 700_000
