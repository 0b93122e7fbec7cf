from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from specs_eval.tasks.lmms.content import Digester


def png(color: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), color).save(stream, "PNG")
    return stream.getvalue()


def digest(*rows: object) -> str:
    hasher = Digester()
    for row in rows:
        hasher.add(row)
    return hasher.hexdigest()


def test_media_count_with_their_bytes_not_their_paths(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png("red"))
    stored = digest({"image": {"bytes": png("red"), "path": "x.png"}})
    assert stored == digest({"image": {"bytes": png("red"), "path": None}})
    assert stored == digest({"image": {"bytes": None, "path": str(tmp_path / "a.png")}})
    assert stored != digest({"image": {"bytes": png("blue"), "path": "x.png"}})


@pytest.mark.parametrize("other", [{"a": 2}, {"b": 1}, {"a": [1]}, {"a": "1"}, {"a": None}])
def test_any_change_of_a_row_changes_the_digest(other: object) -> None:
    assert digest({"a": 1}) != digest(other)


def test_order_of_rows_counts_and_order_of_keys_does_not() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}, {"a": 2}) != digest({"a": 2}, {"a": 1})


def test_media_are_noticed() -> None:
    hasher = Digester()
    hasher.add({"text": "x"})
    assert not hasher.saw_media
    hasher.add({"images": [{"bytes": b"x", "path": None}]})
    assert hasher.saw_media
