"""From a chat to the prompt that vLLM takes: the token ids that the hf backend has, and the images.

The checkpoint's own chat template and tokenizer make the ids, by the same code as in the hf backend. Only what stands for
an image is spread out by vLLM, by its own rules for each architecture; `Prompts.check` holds the outcome against the
checkpoint's own processor.
"""

from __future__ import annotations

from typing import Any

from specs_eval.backends.hf.chats import ChatEncoder
from specs_eval.backends.hf.foreign_errors import INPUT_ERRORS, first_line
from specs_eval.chat import Chat, TextPart, images_of
from specs_eval.errors import GenerationError


class Prompts:
    """Makes prompts with the processor of one checkpoint."""

    def __init__(self, encoder: ChatEncoder) -> None:
        self._encoder = encoder
        self._image_token = _image_token(encoder)

    def prompt_of(self, chat: Chat) -> dict[str, Any]:
        """A chat as vLLM's tokens prompt, images decoded.

        Raises:
            GenerationError: an image does not decode, or the text cannot be tokenized.
        """
        images = [part.load() for part in images_of(chat)]
        if self._image_token is not None and any(
            isinstance(part, TextPart) and self._image_token in part.text for message in chat for part in message.parts
        ):
            raise GenerationError(f"the text spells the model's image token {self._image_token!r}")
        try:
            text = self._encoder.render(chat)
            ids = self._encoder.tokenizer(text, **self._encoder.tokenizer_options(text))["input_ids"]
        except INPUT_ERRORS as error:
            raise GenerationError(f"the tokenizer refused the sample: {first_line(error)}") from error
        prompt: dict[str, Any] = {"prompt_token_ids": list(ids)}
        if images:
            prompt["multi_modal_data"] = {"image": images}
        return prompt

    def difference(self, chat: Chat, ids: list[int]) -> str | None:
        """How the ids that vLLM made part from those of the checkpoint's own processor; None: they are the same.

        Raises:
            GenerationError: the processor refuses the sample.
        """
        expected: list[int] = self._encoder.encode(chat)["input_ids"][0].tolist()
        if ids == expected:
            return None
        pairs = enumerate(zip(ids, expected, strict=False))
        place = next((place for place, (one, other) in pairs if one != other), min(len(ids), len(expected)))
        return f"{len(ids)} tokens against {len(expected)}, parting at position {place}"


def _image_token(encoder: ChatEncoder) -> str | None:
    """The text of the token that stands for an image."""
    token = getattr(encoder.processor, "image_token", None)
    return token if isinstance(token, str) and token else None
