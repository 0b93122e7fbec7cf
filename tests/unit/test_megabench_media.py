"""Media of MEGA-Bench: beside the records, straight from data.zip, and videos; and archives that are made to hurt."""

import io
import json
import os
import struct
import sys
import zipfile

import pytest
from PIL import Image

from specs_eval.chat import ImagePart, TextPart, chat_digest, images_of
from specs_eval.errors import GenerationError, TaskDataError
from specs_eval.tasks.megabench import archive, video
from specs_eval.tasks.megabench.task import MegaBench

CONFIG = {
    "field_score_function": {"answer": "exact_str_match"},
    "aggregation": {"function": "mean", "field_weights": {"answer": 1}},
    "response_parse_function": "answer_string",
}
EVIL = ["../../evil.png", "/etc/passwd", "data/../../evil.png", "..", "", "a\0b.png"]


def picture(color, size=(6, 4), kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, kind)
    return stream.getvalue()


def clip(path, n_frames, size=(32, 16)):
    """A lossless-enough clip whose frames get brighter."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(n_frames):
            shade = round(255 * index / max(1, n_frames - 1))
            frame = av.VideoFrame.from_image(Image.new("RGB", size, (shade, shade, shade)))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def record(**more):
    return {
        "id": "1",
        "task_name": "toy",
        "task_description": "",
        "global_media": "[]",
        "example_text": "",
        "example_media": "[]",
        "query_text": "<image> or <image>?",
        "query_media": "['./data/b.png', './data/a.png']",
        "answer": "{'answer': 'B'}",
        "metric_info": str(CONFIG),
        "eval_context": "{}",
        **more,
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with records and no media yet; unpacked files go into a cache of this test."""
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    archive._folder.cache_clear()
    found = tmp_path / "data" / "megabench"
    found.mkdir(parents=True)
    write(found, record())
    return found


def write(folder, *records):
    (folder / "core.json").write_text(json.dumps(list(records)))


def pack(folder, members, name="data.zip", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(folder / name, "w", compression) as file:
        for member, content in members.items():
            file.writestr(member, content)


def sample(folder):
    (found,) = MegaBench(data_dir=folder.parent).samples()
    return found


def colors(chat):
    return [image.load().getpixel((0, 0)) for image in images_of(chat)]


@pytest.mark.parametrize("prefix", ["data/", "./data/", "megabench_data/data/"])
def test_media_are_read_from_the_archive_as_from_files(folder, prefix):
    pictures = {"a.png": picture("red"), "b.png": picture("blue")}
    pack(folder, {prefix + name: content for name, content in pictures.items()})
    packed = sample(folder)
    assert colors(packed.chat) == [(0, 0, 255), (255, 0, 0)]
    version = MegaBench(data_dir=folder.parent).version
    (folder / "data.zip").unlink()
    (folder / "data").mkdir()
    for name, content in pictures.items():
        (folder / "data" / name).write_bytes(content)
    assert chat_digest(sample(folder).chat) == chat_digest(packed.chat)
    assert MegaBench(data_dir=folder.parent).version == version


def test_only_what_is_asked_for_is_unpacked_and_once(folder, tmp_path):
    pack(folder, {f"data/{name}.png": picture("red") for name in "abcdef"})
    first = sample(folder)
    unpacked = sorted(path.name for path in (tmp_path / "assets").rglob("*") if path.is_file())
    assert unpacked == ["a.png", "b.png"]
    times = [image.source.stat().st_mtime_ns for image in images_of(first.chat)]
    assert [image.source.stat().st_mtime_ns for image in images_of(sample(folder).chat)] == times


def test_another_archive_is_another_version(folder):
    pack(folder, {"data/a.png": picture("red"), "data/b.png": picture("blue")})
    before = MegaBench(data_dir=folder.parent).version
    pack(folder, {"data/a.png": picture("red"), "data/b.png": picture("lime")})
    os.utime(folder / "data.zip", ns=(1, 1))
    assert MegaBench(data_dir=folder.parent).version != before


@pytest.mark.parametrize("name", EVIL)
def test_names_that_lead_out_are_refused_in_records(folder, name):
    (folder.parent / "evil.png").write_bytes(picture("red"))
    (folder.parent.parent / "evil.png").write_bytes(picture("red"))
    pack(folder, {name or "x": picture("red"), "data/a.png": picture("red")})
    write(folder, record(query_media=str([name, "data/a.png"])))
    with pytest.raises(TaskDataError, match=r"toy/1: no media file .* leads out"):
        sample(folder)


def test_names_that_lead_out_of_an_archive_write_nothing(folder, tmp_path):
    hostile = {"../../../evil.png": b"x", "/evil.png": b"x", "data/../../evil.png": b"x"}
    pack(folder, {**hostile, "data/a.png": picture("red"), "data/b.png": picture("blue")})
    assert len(colors(sample(folder).chat)) == 2
    assert not list(tmp_path.rglob("evil*"))


def test_links_that_the_user_made_are_followed(folder, tmp_path):
    elsewhere = tmp_path / "disk" / "data"
    elsewhere.mkdir(parents=True)
    for name in "ab":
        (elsewhere / f"{name}.png").write_bytes(picture("red"))
    (folder / "data").symlink_to(elsewhere)
    assert len(colors(sample(folder).chat)) == 2


def damaged(content, how):
    if how == "no zip":
        return b"<html>not found</html>"
    if how == "truncated":
        return content[: len(content) // 2]
    if how == "a byte":
        place = content.index(b"IDAT")
        return content[:place] + b"XDAT" + content[place + 4 :]
    if how == "encrypted":
        return content.replace(b"PK\x03\x04\x14\x00\x00\x00", b"PK\x03\x04\x14\x00\x01\x00").replace(
            b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"
        )
    return b""


@pytest.mark.parametrize("how", ["no zip", "truncated", "a byte", "encrypted", "empty"])
def test_damaged_archives_are_named(folder, how):
    pack(folder, {"data/a.png": picture("red"), "data/b.png": picture("blue")})
    content = (folder / "data.zip").read_bytes()
    assert damaged(content, how) != content
    (folder / "data.zip").write_bytes(damaged(content, how))
    with pytest.raises(TaskDataError, match=r"data\.zip.*(download|unpack)"):
        sample(folder)


def test_bombs_are_refused_before_they_are_unpacked(folder, tmp_path):
    bomb = b"\0" * (archive.RATIO_MATTERS_BYTES + 2**20)
    pack(folder, {"data/a.png": picture("red"), "data/b.png": bomb}, compression=zipfile.ZIP_LZMA)
    with pytest.raises(TaskDataError, match="bomb"):
        sample(folder)
    assert not list((tmp_path / "assets").rglob("b.png"))


def test_an_archive_that_lies_about_sizes_is_damaged_and_leaves_nothing(folder, tmp_path):
    content = b"\0" * 2**20
    pack(folder, {"data/a.png": picture("red"), "data/b.png": content}, compression=zipfile.ZIP_DEFLATED)
    data = (folder / "data.zip").read_bytes()
    place = data.rindex(b"PK\x01\x02")
    assert struct.unpack("<L", data[place + 24 : place + 28]) == (len(content),)
    (folder / "data.zip").write_bytes(data[: place + 24] + struct.pack("<L", 100) + data[place + 28 :])
    with pytest.raises(TaskDataError, match="cannot be unpacked"):
        sample(folder)
    assert not list((tmp_path / "assets").rglob("*b.png*"))


def test_a_file_that_is_nowhere_is_named(folder):
    with pytest.raises(TaskDataError, match=r"toy/1: no media file \./data/b\.png under .*put data\.zip"):
        sample(folder)
    pack(folder, {"data/a.png": picture("red")})
    with pytest.raises(TaskDataError, match=r"no media file \./data/b\.png in .*data\.zip"):
        sample(folder)


def test_a_picture_that_does_not_decode_fails_its_sample_and_not_the_task(folder):
    pack(folder, {"data/a.png": b"no picture", "data/b.png": picture("blue")})
    with pytest.raises(GenerationError, match="does not decode"):
        colors(sample(folder).chat)


@pytest.mark.parametrize(("n_frames", "kept"), [(1, 1), (3, 3), (64, 64), (65, 33), (150, 50)])
def test_videos_are_frames_at_equal_distances_between_marks(folder, tmp_path, n_frames, kept):
    clip(tmp_path / "clip.mp4", n_frames)
    pack(folder, {"data/clip.mp4": (tmp_path / "clip.mp4").read_bytes(), "data/a.png": picture("red")})
    write(folder, record(query_text="Look: <video> and <image>", query_media="['data/clip.mp4', 'data/a.png']"))
    parts = sample(folder).chat[0].parts
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    assert texts == ["Look:\n[video start]", "[video end]\nand"]
    images = [part for part in parts if isinstance(part, ImagePart)]
    shades = [image.load().getpixel((8, 8))[0] for image in images[:-1]]
    assert len(shades) == kept <= video.MAX_VIDEO_FRAMES
    assert shades == sorted(shades) and (n_frames == 1 or shades[-1] > 200)
    assert len({image.digest for image in images}) == kept + 1


def test_frames_are_decoded_when_they_are_wanted_and_not_kept(folder, tmp_path, monkeypatch):
    (folder / "data").mkdir()
    clip(folder / "data/clip.mp4", 5)
    write(folder, record(query_text="<video>", query_media="['data/clip.mp4']"))
    decoded = []
    original = video._decoded.__wrapped__
    monkeypatch.setattr(video, "_decoded", lambda *arguments: decoded.append(1) or original(*arguments))
    found = sample(folder)
    assert MegaBench(data_dir=folder.parent).version and not decoded
    images_of(found.chat)[0].load()
    assert decoded == [1]


def test_changed_videos_are_another_version(folder):
    (folder / "data").mkdir()
    write(folder, record(query_text="<video>", query_media="['data/clip.mp4']"))
    versions = set()
    for n_frames in (5, 6):
        clip(folder / "data/clip.mp4", n_frames)
        versions.add(MegaBench(data_dir=folder.parent).version)
    assert len(versions) == 2


def test_a_broken_video_is_named(folder):
    pytest.importorskip("av")
    (folder / "data").mkdir()
    (folder / "data/clip.mp4").write_bytes(b"no video at all")
    write(folder, record(query_text="<video>", query_media="['data/clip.mp4']"))
    with pytest.raises(TaskDataError, match=r"toy/1: video .*clip\.mp4 does not open"):
        sample(folder)


def test_a_video_that_breaks_off_fails_or_shows_its_last_frame(folder):
    (folder / "data").mkdir()
    path = clip(folder / "data/clip.mp4", 30)
    write(folder, record(query_text="<video>", query_media="['data/clip.mp4']"))
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[: start + 200] + bytes(len(data) - start - 200))
    try:
        found = [image.load().size for image in images_of(sample(folder).chat)]
    except (GenerationError, TaskDataError) as error:
        assert "clip.mp4" in str(error)
    else:
        assert found == [(32, 16)] * 30


def test_without_a_decoder_a_video_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (folder / "data").mkdir()
    (folder / "data/clip.mp4").write_bytes(b"x")
    write(folder, record(query_text="<video>", query_media="['data/clip.mp4']"))
    with pytest.raises(TaskDataError, match=r"toy/1: videos need the av package: pip install av"):
        sample(folder)


def test_an_animated_picture_is_its_first_frame(folder):
    (folder / "data").mkdir()
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(folder / "data/a.gif", save_all=True, append_images=frames[1:])
    write(folder, record(query_text="<image>", query_media="['data/a.gif']"))
    assert colors(sample(folder).chat) == [(255, 0, 0)]
