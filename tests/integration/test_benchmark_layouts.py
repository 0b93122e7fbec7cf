"""Every layout in which users have the benchmarks, through the real command line and the shipped tiny checkpoint."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from specs_eval import load_runs
from specs_eval.cli import main
from specs_eval.store import RunStore
from specs_eval.training.tiny import checkpoint_path

SPECS = str(Path(sys.executable).parent / "specs-eval")
SHARED = Path(__file__).parents[3] / "shared/data"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def png(color: str, size: tuple[int, int] = (32, 32)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, "PNG")
    return stream.getvalue()


def column(color: str) -> dict[str, Any]:
    """An image as in a Parquet file of the hub."""
    return {"bytes": png(color), "path": f"{color}.png"}


def mathvista_rows(*, embedded: bool) -> list[dict[str, Any]]:
    kinds: list[dict[str, Any]] = [
        {"question_type": "multi_choice", "answer_type": "text", "choices": ["red", "blue"], "answer": "blue"},
        {"question_type": "free_form", "answer_type": "integer", "choices": None, "answer": "14"},
    ]
    rows = []
    for number, kind in enumerate(kinds):
        row = {"pid": str(number), "question": f"Number {number}?", "unit": None, "precision": None, **kind}
        row |= {"image": f"images/{number}.png", "metadata": {"skills": ["logic"], "task": "figure", "context": "toy"}}
        rows.append(
            row | ({"decoded_image": column("red"), "query": f"Question: number {number}?"} if embedded else {})
        )
    return rows


def mmmu_row(number: int, question: str, options: list[str], **more: Any) -> dict[str, Any]:
    images: dict[str, Any] = {f"image_{index}": None for index in range(1, 8)}
    images |= {"image_1": column("red"), "image_2": column("blue")}
    row = {"id": f"validation_Art_{number}", "question": question, "options": str(options), "answer": "B"}
    return {**row, **images, "question_type": "multiple-choice", "subject": "Art", **more}


def mmmu_rows() -> list[dict[str, Any]]:
    return [
        mmmu_row(1, "First <image 2>, then <image 1>, then <image 2>?", ["yes", "no"]),
        mmmu_row(2, "Which?", ["<image 2>", "<image 1>"]),
    ]


def vision_rows() -> list[dict[str, Any]]:
    return [{"id": "test_Art_1", "image": column("lime"), "options": "['a', 'b']", "answer": "B", "subject": "Art"}]


def megabench_rows() -> list[dict[str, Any]]:
    config = {
        "field_score_function": {"answer": "exact_str_match"},
        "aggregation": {"function": "mean", "field_weights": {"answer": 1}},
        "response_parse_function": "answer_string",
    }
    row = {
        "task_name": "toy",
        "task_description": "One of these: <image><image>",
        "global_media": "['./data/toy/red.png', './data/toy/blue.png']",
        "example_text": "Example: <image>. Answer: A",
        "example_media": "['./data/toy/blue.png']",
        "query_text": "And <image>?",
        "query_media": "['./data/toy/red.png']",
        "answer": "{'answer': 'B'}",
        "metric_info": str(config),
        "eval_context": "{}",
    }
    film = {"query_text": "And <video>?", "query_media": "['./data/toy/film.mp4']"}
    return [{"id": "1", **row}, {"id": "2", **row, **film}]


def film() -> bytes:
    av = pytest.importorskip("av")
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        for color in ("red", "lime", "blue"):
            container.mux(video.encode(av.VideoFrame.from_image(Image.new("RGB", (32, 32), color))))
        container.mux(video.encode())
    return stream.getvalue()


def media() -> dict[str, bytes]:
    return {"data/toy/red.png": png("red"), "data/toy/blue.png": png("blue"), "data/toy/film.mp4": film()}


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def mathvista_hub(root: Path) -> None:
    write_parquet(root / "data/testmini-00000-of-00001-725687bf7a18d64b.parquet", mathvista_rows(embedded=True))


def mmmu_hub(root: Path) -> None:
    for number, row in enumerate(mmmu_rows()):
        write_parquet(root / ("Art", "Music")[number] / "validation-00000-of-00001.parquet", [row])


def pro_hub(root: Path) -> None:
    for setting in ("standard (10 options)", "standard (4 options)"):
        write_parquet(root / setting / "test-00000-of-00002.parquet", mmmu_rows())
    write_parquet(root / "vision/test-00000-of-00006.parquet", vision_rows())


def megabench_hub(root: Path) -> None:
    write_parquet(root / "core/test-00000-of-00001.parquet", megabench_rows())
    write_zip(root / "data.zip", media())


HUBS = {
    "AI4Math/MathVista": mathvista_hub,
    "MMMU/MMMU": mmmu_hub,
    "MMMU/MMMU_Pro": pro_hub,
    "TIGER-Lab/MEGA-Bench": megabench_hub,
}
TASKS = {
    "mathvista": ("AI4Math/MathVista", 2, 1),
    "mmmu": ("MMMU/MMMU", 2, 3),
    "mmmu_pro": ("MMMU/MMMU_Pro", 2, 3),
    "mmmu_pro_standard4": ("MMMU/MMMU_Pro", 2, 3),
    "mmmu_pro_vision": ("MMMU/MMMU_Pro", 1, 1),
    "megabench": ("TIGER-Lab/MEGA-Bench", 2, 6),
}
"""Task -> data set, samples, and most images in a chat."""


def specs(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    command = [SPECS, *arguments, "--store", str(tmp_path / "runs")]
    variables = {**os.environ, **known, **environment}
    for name in ("HF_HUB_CACHE", "HF_ASSETS_CACHE", "SPECS_EVAL_DATA"):
        variables.pop(name, None)
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False)


def run(tmp_path: Path, tasks: str, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = ["run", "--ckpt", f"tiny={checkpoint_path()}", "--tasks", tasks, "--max-new-tokens", "4"]
    return specs(tmp_path, *arguments, "--limit", "4", *more)


def assert_all_answered(tmp_path: Path, done: subprocess.CompletedProcess[str], tasks: dict[str, Any]) -> None:
    assert done.returncode == 0, done.stderr + done.stdout
    frame = load_runs(tmp_path / "runs")
    assert frame.groupby("task").size().to_dict() == {name: facts[1] for name, facts in tasks.items()}
    assert frame["score"].notna().all() and frame["n_tokens"].between(1, 4).all()
    for stored in RunStore.open(tmp_path / "runs").runs():
        lines = (stored.directory / "samples.jsonl").read_text().splitlines()
        counts = [len(json.loads(line)["images"]) for line in lines]
        assert max(counts) == tasks[stored.manifest.task][2], stored.manifest.task


def fake_hub_cache(home: Path) -> None:
    """The four data sets as ``huggingface_hub`` keeps them: blobs, and links to them in a snapshot."""
    for repository, write in HUBS.items():
        folder = home / "hub" / f"datasets--{repository.replace('/', '--')}"
        plain = folder / "plain"
        write(plain)
        snapshot = folder / "snapshots" / COMMIT
        (folder / "blobs").mkdir()
        for number, path in enumerate(sorted(path for path in plain.rglob("*") if path.is_file())):
            link = snapshot / path.relative_to(plain)
            link.parent.mkdir(parents=True, exist_ok=True)
            path.rename(folder / "blobs" / str(number))
            link.symlink_to(os.path.relpath(folder / "blobs" / str(number), link.parent))
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text(COMMIT)


def test_from_the_hub_cache_without_a_network(tmp_path: Path) -> None:
    fake_hub_cache(tmp_path / "hf")
    done = run(tmp_path, ",".join(TASKS))
    assert_all_answered(tmp_path, done, TASKS)
    unpacked = {path.name for path in (tmp_path / "hf/assets").rglob("*") if path.is_file()}
    assert unpacked == {"red.png", "blue.png", "film.mp4"}


def test_from_folders_as_downloaded_from_the_hub(tmp_path: Path) -> None:
    for repository, write in HUBS.items():
        write(tmp_path / "data" / repository)
    done = run(tmp_path, ",".join(TASKS), "--data-dir", str(tmp_path / "data"), "--profile", "reasoning")
    assert_all_answered(tmp_path, done, TASKS)


def test_from_official_json_and_media_in_folders(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_files(data / "mathvista", {f"images/{number}.png": png("red") for number in range(2)})
    records = {row["pid"]: row for row in mathvista_rows(embedded=False)}
    (data / "mathvista/testmini.json").write_text(json.dumps(records))
    names = {"image_1": "red.png", "image_2": "images/blue.png"}
    write_files(data / "mmmu/images", {"red.png": png("red"), "blue.png": png("blue")})
    (data / "mmmu/validation.json").write_text(json.dumps([{**row, **names} for row in mmmu_rows()]))
    write_files(data / "megabench_data", media())
    (data / "megabench_data/core.jsonl").write_text("".join(json.dumps(row) + "\n" for row in megabench_rows()))
    tasks = {name: TASKS[name] for name in ("mathvista", "mmmu", "megabench")}
    done = run(tmp_path, ",".join(tasks), "--data-dir", str(data))
    assert_all_answered(tmp_path, done, tasks)


@pytest.mark.parametrize("how", ["missing", "no image", "leads out", "damaged zip", "no video"])
def test_what_is_wrong_with_the_data_is_said(tmp_path: Path, how: str) -> None:
    data, rows = tmp_path / "data", megabench_rows()
    files = media()
    if how == "no image":
        del files["data/toy/red.png"]
    if how == "leads out":
        rows[0]["query_media"] = "['../../../secret.png']"
        (tmp_path / "secret.png").write_bytes(png("red"))
    if how == "no video":
        files["data/toy/film.mp4"] = b"nothing"
    if how != "missing":
        write_parquet(data / "megabench/core/test-00000-of-00001.parquet", rows)
        write_zip(data / "megabench/data.zip", files)
    if how == "damaged zip":
        (data / "megabench/data.zip").write_bytes(b"PK\x03\x04 and no more")
    data.mkdir(exist_ok=True)
    arguments = ["run", "--ckpt", str(checkpoint_path()), "--tasks", "megabench", "--data-dir", str(data)]
    done = CliRunner().invoke(main, [*arguments, "--store", str(tmp_path / "runs")])
    said = {
        "missing": "hf download TIGER-Lab/MEGA-Bench",
        "no image": "no media file ./data/toy/red.png in",
        "leads out": "leads out of the data folder",
        "damaged zip": "download it again",
        "no video": "film.mp4 does not open",
    }[how]
    message = " ".join(done.output.split())
    assert done.exit_code == 2 and said in message and "Traceback" not in message, message


@pytest.mark.skipif(not (SHARED / "images_manifest.json").is_file(), reason="the benchmark images are not here")
def test_real_benchmark_images_are_answered(tmp_path: Path) -> None:
    listed = json.loads((SHARED / "images_manifest.json").read_text())
    known = [entry for entry in listed if entry["benchmark"] == "mmmu" and entry["file"].endswith(".png")][:6]
    rows = []
    for number, entry in enumerate(known):
        images = {"image_1": {"bytes": (SHARED / entry["file"]).read_bytes(), "path": None}}
        rows.append({**mmmu_row(number, "What is in <image 1>?", ["this", "that"]), "image_2": None, **images})
    write_parquet(tmp_path / "data/mmmu/Art/validation-00000-of-00001.parquet", rows)
    pictures = [entry for entry in listed if entry["benchmark"] == "megabench"][:6]
    mega = []
    for number, entry in enumerate(pictures):
        name = Path(entry["file"]).name
        write_files(tmp_path / "data/megabench/data", {name: (SHARED / entry["file"]).read_bytes()})
        one = {"task_description": "", "global_media": "[]", "example_text": "", "example_media": "[]"}
        asked = {"id": str(number), "query_text": "What is <image>?", "query_media": str([f"./data/{name}"])}
        mega.append({**megabench_rows()[0], **one, **asked})
    write_parquet(tmp_path / "data/megabench/core.parquet", mega)
    done = run(tmp_path, "mmmu,megabench", "--data-dir", str(tmp_path / "data"))
    assert_all_answered(tmp_path, done, {"mmmu": ("", 4, 1), "megabench": ("", 4, 1)})
