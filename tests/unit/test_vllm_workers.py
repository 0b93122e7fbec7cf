"""What runs in vLLM's workers beside the processor: are the weights there, and does the owner live."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from specs_eval.backends.vllm.lifeline import watch
from specs_eval.backends.vllm.weights_check import found_in, pack_again


class PackedLayer(torch.nn.Module):
    """As vLLM packs a matrix on the CPU: computed with a copy; the matrix itself is kept or dropped."""

    def __init__(self, weight: torch.Tensor, *, keep: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
        self.input_size_per_partition = weight.shape[1]
        self.keep, self.quant_method = keep, self
        self.process_weights_after_loading(self)

    def process_weights_after_loading(self, layer: Any) -> None:
        copy = self.weight.data.clone()
        self.cpu_linear = lambda x, weight, bias: torch.nn.functional.linear(x, copy, bias)
        if not self.keep:
            self.weight = torch.nn.Parameter(torch.empty(0), requires_grad=False)


def test_packed_matrices_are_read_back_and_copies_that_lag_are_noticed(tmp_path: Path) -> None:
    weights = {name: torch.randn(40, 70, generator=torch.Generator().manual_seed(i)) for i, name in enumerate("ab")}
    weights["a"][3, :5] = -0.0
    save_file(weights, tmp_path / "model.safetensors")
    model = torch.nn.ModuleDict({"a": PackedLayer(weights["a"], keep=False), "b": PackedLayer(weights["b"], keep=True)})
    assert found_in(model, str(tmp_path)) == {"a": True, "b": True, "packed b": True}
    other = {name: weight + (weight == weight.max()) for name, weight in weights.items()}
    other["a"][0, 0] += 1e-3
    save_file(other, tmp_path / "model.safetensors")
    assert not found_in(model, str(tmp_path))["a"]
    model["b"].weight.data.copy_(other["b"] * 2)
    save_file({**weights, "b": other["b"] * 2}, tmp_path / "model.safetensors")
    assert found_in(model, str(tmp_path)) == {"a": True, "b": True, "packed b": False}
    pack_again(model)
    assert found_in(model, str(tmp_path)) == {"a": True, "b": True, "packed b": True}


def test_joined_and_split_tensors_are_found(tmp_path: Path) -> None:
    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))

    weights = {"q": random(8, 96), "k": random(4, 96), "conv": random(6, 3, 2, 2), "qb": random(8), "kb": random(4)}
    save_file({**weights, "absent": random(5, 96)}, tmp_path / "model.safetensors")
    model = torch.nn.Module()
    for name, tensor in {
        "qkv": torch.cat([weights["q"], weights["k"]]),
        "bias": torch.cat([weights["qb"], weights["kb"]]),
        "patch": weights["conv"].flatten(1),
    }.items():
        model.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
    found = found_in(model, str(tmp_path))
    assert found == {**dict.fromkeys(weights, True), "absent": False}
    half = torch.nn.Module()
    half.register_parameter("w", torch.nn.Parameter(weights["q"][:, :70].to(torch.bfloat16), requires_grad=False))
    assert found_in(half, str(tmp_path))["q"] and not found_in(half, str(tmp_path))["k"]


def test_a_worker_ends_with_the_owner_of_its_engine() -> None:
    owner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    watching = (
        f"import time; from specs_eval.backends.vllm.lifeline import watch; print(watch({socket.gethostname()!r}, "
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", f"{watching}{owner.pid}), flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout is not None and worker.stdout.readline() == "True\n"
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(1.5)
        owner.kill()  # not waited for: it stays behind as a zombie
        assert worker.wait(20) == 1
    finally:
        for process in (owner, worker):
            process.kill()
            process.wait()


def test_there_is_nothing_to_watch_in_the_owners_process_or_on_another_machine() -> None:
    assert not watch(socket.gethostname(), os.getpid())
    assert not watch("another-machine", os.getppid())
