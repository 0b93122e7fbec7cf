"""``specs-eval doctor``: what is installed, which backends work and why not, devices, data, store health."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import click

from specs_eval.errors import EXIT_INCOMPLETE

State = Literal["ok", "missing", "broken", "info"]

_MARKS = {"ok": "ok", "missing": "--", "broken": "!!", "info": "  "}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis."""

    area: str
    subject: str
    state: State
    """``missing`` is an option that is not installed; ``broken`` is something that should work and does not."""
    detail: str


@click.command()
@click.option("--store", type=click.Path(path_type=Path), default=Path("runs"), show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), envvar="SPECS_EVAL_DATA")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
def doctor(store: Path, data_dir: Path | None, as_json: bool) -> None:
    """Say what works here and what does not. Exits 3 when something that should work is broken."""
    # A diagnosis looks at this machine and does not wait for a network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    findings = [*packages(), *devices(), *backends(), *embedded(), *data(data_dir), *checks(), *store_health(store)]
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    sys.exit(EXIT_INCOMPLETE if any(finding.state == "broken" for finding in findings) else 0)


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.subject) for finding in findings)
    area = ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            click.echo(f"\n{area}")
        click.echo(f"  {_MARKS[finding.state]} {finding.subject:<{width}}  {finding.detail}")


_PACKAGES = (
    ("torch", "hf backend"),
    ("transformers", "hf backend"),
    ("lmms-eval", "lmms-eval tasks and plug-in"),
    ("easy-vqa", "embedded benchmark"),
)
_OPTIONAL = (
    ("peft", "LoRA checkpoints: pip install 'specs-eval[train]'"),
    ("trl", "training: pip install 'specs-eval[train]'"),
    ("vllm", "vLLM: pip install 'specs-eval[vllm]'"),
    ("ray", "clusters: pip install 'specs-eval[ray]'"),
)


def packages() -> list[Finding]:
    """Versions of what we stand on."""
    from specs_eval.environment import package_version

    found = [Finding("Packages", "python", "ok", sys.version.split()[0])]
    for name, purpose in _PACKAGES:
        version = package_version(name)
        detail = version or f"not installed; needed for: {purpose}"
        found.append(Finding("Packages", name, "ok" if version else "broken", detail))
    for name, purpose in _OPTIONAL:
        version = package_version(name)
        found.append(Finding("Packages", name, "ok" if version else "missing", version or purpose))
    return found


def devices() -> list[Finding]:
    """CPU cores and accelerators as torch sees them."""
    found = [Finding("Devices", "cpu", "ok", f"{os.cpu_count()} cores")]
    try:
        import torch
    except (ImportError, OSError) as error:
        return [*found, Finding("Devices", "torch", "broken", f"does not import: {error}")]
    if not torch.cuda.is_available():
        return [
            *found,
            Finding("Devices", "gpu", "missing", f"none (torch {torch.__version__}); everything runs on CPU"),
        ]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        found.append(Finding("Devices", f"cuda:{index}", "ok", memory))
    return found


def backends() -> list[Finding]:
    """Whether each backend can be made, and if not why."""
    from specs_eval.backends.base import BackendOptions
    from specs_eval.backends.registry import BACKENDS, create_backend

    found = []
    for name, description in BACKENDS.items():
        try:
            backend = create_backend(name, BackendOptions())
            found.append(Finding("Backends", name, "ok", f"{description}; {backend.numerics}"))
            backend.close()
        except (ImportError, OSError, RuntimeError) as error:
            found.append(Finding("Backends", name, "broken", f"{type(error).__name__}: {error}"))
    return found


def embedded() -> list[Finding]:
    """The tiny VLM that ships with the package."""
    from specs_eval.checkpoints import resolve_checkpoints
    from specs_eval.errors import SpecsEvalError
    from specs_eval.fingerprint import Fingerprinter
    from specs_eval.training.tiny import checkpoint_path

    path = checkpoint_path()
    try:
        (checkpoint,) = resolve_checkpoints([str(path)], Fingerprinter()).checkpoints
    except SpecsEvalError as error:
        return [Finding("Embedded model", "tiny", "broken", str(error))]
    return [Finding("Embedded model", "tiny", "ok", f"{checkpoint.fingerprint[:12]} in {path}")]


def data(data_dir: Path | None) -> list[Finding]:
    """Benchmark data that can be found from here."""
    from specs_eval.errors import SpecsEvalError
    from specs_eval.tasks.registry import TASKS

    where = f"{data_dir}" if data_dir else "not set (--data-dir or SPECS_EVAL_DATA)"
    found = [Finding("Data", "data folder", "info", where)]
    for name, entry in TASKS.items():
        try:
            samples = entry.create(data_dir, "official", None).samples()
            found.append(Finding("Data", name, "ok", f"{len(samples):,} samples"))
        except SpecsEvalError as error:
            state: State = "broken" if name == "easyvqa" else "missing"
            found.append(Finding("Data", name, state, _short(str(error))))
    return found


def _short(text: str, limit: int = 140) -> str:
    """The first sentence of a message, or what fits on a line of it."""
    sentence = text.split("\n")[0].split(". ")[0]
    return sentence if len(sentence) <= limit else sentence[: limit - 3] + "..."


def checks() -> list[Finding]:
    """The policy and the pinned baselines that ``specs-eval check`` would take here."""
    from specs_eval.errors import ConfigError

    found = []
    for subject, described in (("policy", _policy), ("baselines", _baselines)):
        try:
            detail = described()
            found.append(Finding("Checks", subject, "ok" if detail else "info", detail or "none here"))
        except ConfigError as error:
            found.append(Finding("Checks", subject, "broken", str(error)))
    return found


def _policy() -> str:
    from specs_eval.analysis.report.wording import counted
    from specs_eval.policy import find_policy, load_policy

    file = find_policy(Path.cwd())
    if file is None:
        return ""
    n = len(load_policy(file)[0].gates)
    return f"{counted(n, 'gate')} in {file}"


def _baselines() -> str:
    from specs_eval.baselines import find_pin_file, load_pins

    file = find_pin_file(Path.cwd())
    return f"{', '.join(pins)} in {file}" if (pins := load_pins(file)) else ""


def store_health(path: Path) -> list[Finding]:
    """Runs of the store: complete, unfinished, with failures, unreadable."""
    from specs_eval.analysis.report.wording import counted
    from specs_eval.errors import SpecsEvalError, StoreError
    from specs_eval.store import MARKER, RunStore

    if not (path / MARKER).exists():
        return [Finding("Store", str(path), "info", "does not exist yet; 'specs-eval run' makes it")]
    try:
        runs = RunStore.open(path).runs()
    except SpecsEvalError as error:
        return [Finding("Store", str(path), "broken", str(error))]
    open_runs = [run for run in runs if not run.complete]
    found = [Finding("Store", str(path), "ok", f"{counted(len(runs), 'run')}, {len(open_runs)} not finished")]
    for run in runs:
        try:
            n_rows = run.table(["score"]).num_rows
            results = run.results()
        except StoreError as error:
            found.append(Finding("Store", run.run_id, "broken", str(error)))
            continue
        if results is None:
            wanted = run.manifest.n_samples * run.manifest.n_rollouts
            detail = f"not finished: {n_rows:,} of {wanted:,} rollouts; the same 'run' command continues it"
            found.append(Finding("Store", run.run_id, "info", detail))
        elif results.n_failed:
            detail = f"{results.n_failed:,} of {results.n_rollouts:,} rollouts failed; run again to retry them"
            found.append(Finding("Store", run.run_id, "info", detail))
    return found
