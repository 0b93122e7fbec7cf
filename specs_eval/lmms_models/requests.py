"""lmms-eval's flat list of requests as what our backends take: one request a sample, with its rollouts and sampling."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from specs_eval.errors import ConfigError
from specs_eval.sampling import SamplingSpec

logger = logging.getLogger(__name__)

DEFAULT_MAX_NEW_TOKENS = 1024
"""Response budget of lmms-eval tasks that name none."""

PADDING_MARK = "__padding_only__"
"""lmms-eval's mark on copies that only keep ranks in step; nobody reads their responses."""


@dataclass(frozen=True, slots=True)
class AskedDoc:
    """One document and how often it is asked: lmms-eval lists a document with k repeats k times in a row."""

    instance: Any
    n_rollouts: int

    @property
    def task(self) -> str:
        """lmms-eval's name of the task."""
        return str(self.instance.args[4])

    @property
    def split(self) -> str:
        """Split of the task's data set."""
        return str(self.instance.args[5])

    @property
    def doc_id(self) -> int:
        """Number of the document in its split."""
        return int(self.instance.args[3])

    @property
    def doc_to_messages(self) -> Any:
        """The task's function from document to chat messages."""
        return self.instance.args[1]

    @property
    def is_padding(self) -> bool:
        """Whether the answer will be thrown away."""
        return bool((self.instance.metadata or {}).get(PADDING_MARK))


def asked_docs(instances: Sequence[Any]) -> list[AskedDoc]:
    """Adjacent occurrences of one `Instance` object joined, in order."""
    return [AskedDoc(same[0], len(same)) for _, group in groupby(instances, key=id) if (same := list(group))]


def by_sampling(docs: Sequence[AskedDoc], seed: int) -> Iterator[tuple[SamplingSpec, list[int]]]:
    """Positions in `docs` that can be answered together: same task, same number of rollouts, same sampling."""
    together: dict[tuple[str, int, SamplingSpec], list[int]] = {}
    for position, doc in enumerate(docs):
        if not doc.is_padding:
            spec = sampling_spec(doc.instance.args[2], seed)
            together.setdefault((doc.task, doc.n_rollouts, spec), []).append(position)
    for (task, n_rollouts, spec), positions in together.items():
        if n_rollouts > 1 and spec.temperature == 0:
            logger.warning("%s: %d repeats without a temperature are all the same response", task, n_rollouts)
        yield spec, positions


def sampling_spec(gen_kwargs: Mapping[str, Any] | None, seed: int) -> SamplingSpec:
    """lmms-eval's ``generation_kwargs`` as our sampling spec.

    ``do_sample: false`` means greedy whatever the temperature, as in transformers; ``do_sample: true`` alone means
    temperature 1.

    Raises:
        ConfigError: beam search or another setting that would change responses and that we cannot honour.
    """
    given = {name: value for name, value in (gen_kwargs or {}).items() if value is not None}
    temperature = _temperature(given)
    _refuse_unknown_decoding(given, greedy=temperature == 0)
    tokens = given.get("max_new_tokens", given.get("max_gen_toks", DEFAULT_MAX_NEW_TOKENS))
    return SamplingSpec(
        temperature=temperature,
        max_new_tokens=int(tokens),
        seed=seed,
        top_p=float(given.get("top_p", 1.0)) if temperature else 1.0,
        stop=stop_strings(given.get("until")),
    )


def stop_strings(until: str | Sequence[str] | None) -> tuple[str, ...]:
    """The stop strings of ``generation_kwargs["until"]``, without those of white space only.

    lmms-eval adds a blank line to every task that names none, and its chat models ignore them: a response that thinks
    in paragraphs would be cut after the first.
    """
    texts = (until,) if isinstance(until, str) else tuple(until or ())
    return tuple(text for text in texts if text.strip())


def _refuse_unknown_decoding(given: Mapping[str, Any], *, greedy: bool) -> None:
    """Settings that would change responses must be honoured or refused, never dropped."""
    if int(given.get("num_beams", 1)) > 1:
        raise ConfigError("num_beams > 1: beam search is not sampling; specs-eval's models do not offer it")
    neutral = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    if not greedy:
        neutral |= {"top_k": 0.0, "min_p": 0.0}
    for name, value in neutral.items():
        if name in given and max(float(given[name]), 0.0) != value:
            raise ConfigError(f"generation_kwargs {name}={given[name]} is not offered by specs-eval's models")


def _temperature(given: Mapping[str, Any]) -> float:
    sample = given.get("do_sample")
    temperature = given.get("temperature")
    if temperature is None:
        return 1.0 if sample else 0.0
    if sample is False and float(temperature) > 0:
        logger.warning("do_sample is false: greedy, although the temperature is %s", temperature)
        return 0.0
    return float(temperature)
