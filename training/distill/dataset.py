"""Pairs on disk: Parquet in TRL's conversational vision format, what they come from, and what was counted.

A folder holds ``train-00000.parquet`` and, unless it is empty, ``validation-00000.parquet``, ``distill.json`` (settings, run, counts, digests)
and ``README.md`` (a data set card, so that ``datasets.load_dataset(FOLDER)`` reads it). Columns:

images              list of images, encoded as the questions had them
prompt              one user turn: image marks and texts in reading order, the format's instruction at the end
chosen, rejected    one assistant turn each
question_id, answer, chosen_rollout, ...   where the pair comes from (`PROVENANCE`)
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs_eval.chat import Chat, ImagePart, TextPart, images_of
from specs_eval.errors import ConfigError, StoreError
from specs_eval.training.distill.pairs import SPLITS, Pair

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import DatasetDict

SUMMARY = "distill.json"
TRL_COLUMNS = ("images", "prompt", "chosen", "rejected")
PROVENANCE = (
    "question_id",
    "answer",
    "pollution",
    "chosen_rollout",
    "rejected_rollout",
    "data",
    "source",
    "checkpoint",
    "fingerprint",
    "run_id",
    "seed",
)
ROWS_AT_A_TIME = 64

Messages = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Origin:
    """What all pairs of a data set have in common."""

    data: str
    source: str
    checkpoint: str
    fingerprint: str
    run_id: str
    seed: int


def messages_of(chat: Chat) -> Messages:
    """A chat as TRL's messages; texts that follow each other become one."""
    messages: Messages = []
    for message in chat:
        parts: list[dict[str, str | None]] = []
        for part in message.parts:
            if isinstance(part, TextPart) and parts and parts[-1]["type"] == "text":
                parts[-1]["text"] = f"{parts[-1]['text']}{part.text}"
            elif isinstance(part, TextPart):
                parts.append({"type": "text", "text": part.text})
            else:
                parts.append({"type": "image", "text": None})
        messages.append({"role": message.role, "content": parts})
    return messages


def row_of(pair: Pair, chat: Chat, origin: Origin) -> dict[str, Any]:
    """One row, without its images."""
    return {
        "prompt": messages_of(chat),
        "chosen": _reply(pair.chosen),
        "rejected": _reply(pair.rejected),
        "question_id": pair.question.question_id,
        "answer": pair.question.answer,
        "pollution": pair.pollution,
        "chosen_rollout": pair.chosen_rollout,
        "rejected_rollout": pair.rejected_rollout,
        **{name: getattr(origin, name) for name in Origin.__dataclass_fields__},
    }


def _reply(text: str) -> Messages:
    return [{"role": "assistant", "content": [{"type": "text", "text": text}]}]


def content_digest(rows: Sequence[Mapping[str, Any]], chats: Sequence[Chat]) -> str:
    """SHA-256 (hex) over rows and image contents: equal exactly when the data sets are."""
    hasher = hashlib.sha256()
    for row, chat in zip(rows, chats, strict=True):
        facts = [row, [image.digest for image in images_of(chat)]]
        hasher.update(json.dumps(facts, sort_keys=True).encode("utf-8", "replace") + b"\n")
    return hasher.hexdigest()


def write_split(path: Path, rows: Sequence[Mapping[str, Any]], chats: Sequence[Chat]) -> None:
    """One Parquet file; images are read and written a few rows at a time.

    Raises:
        StoreError: the disk refuses.
        ConfigError: an image is gone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema()
    try:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for start in range(0, len(rows), ROWS_AT_A_TIME):
                batch = []
                for row, chat in zip(
                    rows[start : start + ROWS_AT_A_TIME], chats[start : start + ROWS_AT_A_TIME], strict=True
                ):
                    batch.append({**row, "images": [_encoded(image) for image in images_of(chat)]})
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; free space, then run again") from error


def _encoded(image: ImagePart) -> dict[str, Any]:
    if isinstance(image.source, Path):
        try:
            return {"bytes": image.source.read_bytes(), "path": image.source.name}
        except OSError as error:
            raise ConfigError(f"image {image.source} is gone: {error.strerror}; put it back and run again") from error
    if isinstance(image.source, bytes):
        return {"bytes": image.source, "path": None}
    stream = io.BytesIO()
    image.load().save(stream, "png")
    return {"bytes": stream.getvalue(), "path": None}


def arrow_schema() -> pa.Schema:
    """The columns, with what `datasets` needs to decode the images."""
    from datasets import Features, Image, List, Value

    text, whole = Value("string"), Value("int64")
    messages = List({"role": text, "content": List({"type": text, "text": text})})
    columns: dict[str, Any] = {"images": List(Image()), "prompt": messages, "chosen": messages, "rejected": messages}
    numbers = ("chosen_rollout", "rejected_rollout", "seed")
    columns |= {name: whole if name in numbers else text for name in PROVENANCE}
    return Features(columns).arrow_schema


def card(title: str, splits: Sequence[str], lines: Sequence[str], content: Mapping[str, str]) -> str:
    """A data set card that tells `datasets` which file is which split.

    Its configuration is named after the content: `datasets` keeps what it read under the folder's last name and that of the
    configuration alone, and would give the pairs of one folder for those of another.
    """
    name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    files = "\n".join(f"  - split: {split}\n    path: {split}-*.parquet" for split in splits)
    listed = "\n".join(f"- {line}" for line in lines)
    return f"---\nconfigs:\n- config_name: pairs-{name}\n  default: true\n  data_files:\n{files}\n---\n\n# {title}\n\n{listed}\n"


def count_pairs(folder: str | Path) -> int:
    """Training pairs of a folder, without reading them.

    Raises:
        ConfigError: the folder holds no pairs, none to train on, or its file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = _train_file(Path(folder))
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"cannot read {path}: {error}; make the pairs again in another folder") from error


def _train_file(place: Path) -> Path:
    if not (place / SUMMARY).is_file():
        raise ConfigError(f"{place} holds no preference pairs; 'specs-eval distill' writes such a folder")
    path = place / f"{SPLITS[0]}-00000.parquet"
    if not path.is_file():
        raise ConfigError(f"{place} has no pairs to train on: {path.name} is missing")
    return path


def load_pairs(folder: str | Path, *, provenance: bool = False) -> DatasetDict:
    """The pairs of a folder, ready for TRL's DPO trainer: split ``train``, and ``validation`` where any are held out.

    Works offline; `datasets` decodes each image when it is looked at.

    Args:
        folder: written by ``specs-eval distill``.
        provenance: keep the columns that say where each pair comes from.

    Raises:
        ConfigError: the folder holds no pairs, or none to train on.
    """
    from datasets import load_dataset

    place = Path(folder)
    _train_file(place)
    files = {split: str(path) for split in SPLITS if (path := place / f"{split}-00000.parquet").is_file()}
    loaded: DatasetDict = load_dataset("parquet", data_files=files)
    return loaded if provenance else loaded.select_columns(list(TRL_COLUMNS))
