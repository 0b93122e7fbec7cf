"""From a chat to the tensors of a model: chat template, image decoding, processor."""

from __future__ import annotations

from typing import Any

import torch

from specs_eval.backends.hf.foreign_errors import INPUT_ERRORS, first_line
from specs_eval.chat import Chat, TextPart, images_of, user_chat
from specs_eval.errors import CheckpointError, GenerationError

Inputs = dict[str, torch.Tensor]

_MARKER = "specs eval template check"


class ChatEncoder:
    """Encodes chats one by one, so that what a sample is asked never depends on its neighbours."""

    def __init__(self, processor: Any, dtype: torch.dtype, source: str) -> None:
        """Take a processor and check its chat template.

        Args:
            processor: a transformers processor.
            dtype: type of the images; whole numbers keep theirs.
            source: name of the checkpoint, for messages.

        Raises:
            CheckpointError: the processor cannot turn chats into model inputs.
        """
        self.processor = processor
        self.tokenizer: Any = getattr(processor, "tokenizer", None)
        if self.tokenizer is None or getattr(processor, "image_processor", None) is None:
            raise CheckpointError(f"{source}: its processor ({type(processor).__name__}) does not take text and images")
        self._dtype = dtype
        self._template = getattr(processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)
        if self._template is None:
            raise CheckpointError(
                f"{source} has no chat template; copy chat_template.jinja from the model it was trained from"
            )
        if isinstance(self._template, dict) and "default" not in self._template:
            raise CheckpointError(f"{source} has chat templates {sorted(self._template)} but none named 'default'")
        self._check_template(source)

    def encode(self, chat: Chat) -> Inputs:
        """Tensors of one chat with the generation prompt at its end, on the CPU; batch dimension 1, no padding.

        Raises:
            GenerationError: an image does not decode, or the processor refuses the sample.
        """
        images = [part.load() for part in images_of(chat)]
        try:
            text = self.render(chat)
            options = self.tokenizer_options(text)
            encoded = self.processor(text=[text], images=[images] if images else None, return_tensors="pt", **options)
            inputs = dict(encoded.to(self._dtype))
        except INPUT_ERRORS as error:
            raise GenerationError(f"the processor refused the sample: {first_line(error)}") from error
        # The processor checks this too, but only where there are images.
        image_token = getattr(self.processor, "image_token_id", None)
        if not images and image_token is not None and bool((inputs["input_ids"] == image_token).any()):
            raise GenerationError("the text spells the model's image token, and there is no image")
        return {key: value for key, value in inputs.items() if isinstance(value, torch.Tensor)}

    def tokenizer_options(self, text: str) -> dict[str, bool]:
        """How a rendered chat is to be tokenized: the template may begin with the token that the tokenizer would add."""
        start = self.tokenizer.bos_token
        return {"add_special_tokens": False} if start and text.startswith(start) else {}

    def render(self, chat: Chat) -> str:
        """The chat as the model's own template writes it."""
        messages = [
            {
                "role": message.role,
                "content": [
                    {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
                    for part in message.parts
                ],
            }
            for message in chat
        ]
        text = self.processor.apply_chat_template(
            messages, chat_template=self._default_template(), add_generation_prompt=True, tokenize=False
        )
        return str(text)

    def _default_template(self) -> str:
        return str(self._template["default"] if isinstance(self._template, dict) else self._template)

    def _check_template(self, source: str) -> None:
        try:
            text = self.render(user_chat(_MARKER))
        except INPUT_ERRORS as error:
            raise CheckpointError(f"{source}: its chat template fails: {first_line(error)}") from error
        if text.count(_MARKER) != 1 or "'type'" in text:
            raise CheckpointError(
                f"{source}: its chat template does not write content given as a list of parts; it is one for text "
                "models. Use the chat template of the vision-language model"
            )
