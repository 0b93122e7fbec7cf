"""The next checkpoint into a running ``vllm serve``, through its development mode, and the proof that it is there.

The server is started with VLLM_SERVER_DEV_MODE=1 and our worker extension, which sees this package and the same folders. The
weights of a checkpoint of the same architecture are loaded in place, every cache is emptied, and rows of each tensor of the
files are looked up in the live model, as the vllm backend does it: what did not arrive is refused, before anything is asked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from specs_eval.backends.endpoint.client import Client
from specs_eval.backends.endpoint.served import ServedModel
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import CheckpointError, ConfigError
from specs_eval.fingerprint import stat_signature
from specs_eval.transport import NoReply, shown_address

logger = logging.getLogger(__name__)

START = (
    "start it with VLLM_SERVER_DEV_MODE=1 in its environment, --worker-extension-cls "
    "specs_eval.backends.vllm.worker.WorkerExtension and --load-format safetensors"
)
MIN_PROVEN = 0.9
"""Share of the tensors of the server's first folder that must be found for those that are not to be excused later."""
_CACHES = ("/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache")


class Reloader:
    """Changes what one server holds, and knows what that is."""

    def __init__(self, client: Client, url: str) -> None:
        self._client, self._url = client, url
        self._first: Path | None = None
        """The folder that the server was started with."""
        self._held: tuple[Path, object] | None = None
        """The folder whose weights are in the server, and the state of its files; None: not known."""
        self._proven: frozenset[str] | None = None
        """Names of the tensors that must be found."""
        self._adapter: str | None = None

    def put(self, models: Sequence[ServedModel], chosen: str | None, checkpoint: Checkpoint) -> str:
        """Make a checkpoint the one that answers; the name to ask for.

        Args:
            models: what the server lists.
            chosen: the name of its model, if the user says one.
            checkpoint: a folder.

        Raises:
            ConfigError: the server cannot exchange weights.
            CheckpointError: it does not take these, or they cannot be proven to be there.
        """
        model = next((model for model in models if chosen in (None, model.name)), None)
        if model is None or model.root is None or not Path(model.root).is_dir():
            raise CheckpointError(
                f"{self._where} was started with {model.root if model else 'no model'!r}, which is no folder here; reload=yes "
                "needs the folders of the server on this machine"
            )
        self._first = Path(model.root)
        base = checkpoint.base or checkpoint.path
        _assert_alike(self._first, base, checkpoint)
        self._exchange(base)
        return self._switch(checkpoint) or model.name

    def assert_still_there(self) -> None:
        """Refuse a server that has other weights than those that were put there, as one that was started again.

        Raises:
            NoReply: it has.
        """
        try:
            held = self._held is not None and not self._missing(self._held[0])
        except (CheckpointError, ConfigError) as error:
            raise NoReply(str(error)) from None
        if not held:
            raise NoReply(f"{self._where} came back without the weights that were put there")

    def restore(self) -> None:
        """Give the server back what it was started with; a line where that fails."""
        if self._first is None or (self._held is not None and self._held[0] == self._first and self._adapter is None):
            return
        try:
            self._drop_adapter()
            self._exchange(self._first)
        except (CheckpointError, ConfigError, OSError) as error:
            logger.warning(
                "%s keeps other weights than those of %s, under its name: %s", self._where, self._first, error
            )

    @property
    def _where(self) -> str:
        return shown_address(self._url)

    def _exchange(self, folder: Path) -> None:
        state = (folder, stat_signature(folder))
        if self._held == state:
            return
        if self._proven is None:
            self._proven = self._provable()
        self._held = None
        self._drop_adapter()
        self._post("/pause?mode=wait")
        try:
            self._call("reload_weights", kwargs={"weights_path": str(folder)})
            self._call("specs_eval_pack_again")
            for path in _CACHES:
                self._post(path)
        finally:
            self._post("/resume")
        missing = self._missing(folder)
        if missing:
            shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise CheckpointError(
                f"{self._where} did not take the weights of {folder}: {len(missing)} of {len(self._proven)} tensors are not "
                f"what it computes with ({shown}). Nothing was asked; serve it by itself"
            )
        self._held = state

    def _provable(self) -> frozenset[str]:
        """What is found of the server's first folder; everything, where it holds something else by now."""
        table = self._table(self._first or Path())
        found = frozenset(name for name, is_found in table.items() if is_found)
        return found if len(found) >= MIN_PROVEN * len(table) else frozenset(table)

    def _missing(self, folder: Path) -> list[str]:
        table = self._table(folder)
        return sorted(name for name in self._proven or () if not table.get(name, False))

    def _table(self, folder: Path) -> dict[str, bool]:
        """Name of each tensor of a folder -> whether a worker of the server has it."""
        try:
            replies = self._call("specs_eval_weights", args=[str(folder)])
        except CheckpointError as error:
            raise ConfigError(f"{error}. To exchange weights {START}") from None
        tables = [reply for reply in replies if isinstance(reply, dict)]
        return {name: any(table.get(name) is True for table in tables) for table in tables for name in table}

    def _switch(self, checkpoint: Checkpoint) -> str | None:
        """Load an adapter beside its base; the name it is served by; None: the checkpoint is none."""
        if checkpoint.base is None:
            self._drop_adapter()
            return None
        name = f"specs-eval-{checkpoint.fingerprint[:16]}"
        if name == self._adapter:
            return name
        self._drop_adapter()
        facts = {"lora_name": name, "lora_path": str(checkpoint.path), "load_inplace": True}
        try:
            self._client.post(self._url, "/load_lora_adapter", facts)
        except NoReply as error:
            if error.status == 404 and "adapter" not in error.detail:
                raise ConfigError(
                    f"{self._where} does not switch adapters; start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora"
                ) from None
            raise CheckpointError(
                f"{self._where} does not take the adapter {checkpoint.path}: {error} {error.detail}".rstrip()
            ) from None
        self._adapter = name
        gaps = set.intersection(*(set(gaps) for gaps in self._call("specs_eval_newest_adapter_gaps")))
        if gaps:
            self._drop_adapter()
            raise CheckpointError(
                f"{checkpoint.path}: vLLM would leave {len(gaps)} of the adapter's modules out ({', '.join(sorted(gaps)[:3])}); "
                "what would answer is not what was trained. Merge it into its base, or use --backend hf, which does"
            )
        return name

    def _drop_adapter(self) -> None:
        name, self._adapter = self._adapter, None
        if name is not None:
            try:
                self._client.post(self._url, "/unload_lora_adapter", {"lora_name": name})
            except NoReply as error:
                raise CheckpointError(f"{self._where} does not let go of adapter {name}: {error}") from None

    def _call(self, method: str, **arguments: Any) -> list[Any]:
        """Call a method of every worker."""
        reply = self._post("/collective_rpc", {"method": method, **arguments})
        try:
            results = json.loads(reply)["results"] if reply else []
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self._where} answers {method} with something else than results") from error
        return list(results)

    def _post(self, path: str, facts: dict[str, Any] | None = None) -> bytes:
        try:
            return self._client.post(self._url.removesuffix("/v1"), path, facts or {})
        except NoReply as error:
            what = (facts or {}).get("method", path)
            if error.status in (404, 405):
                raise ConfigError(f"{self._where} does not know {path}; to exchange weights {START}") from None
            raise CheckpointError(f"{self._where} failed in {what}: {error} {error.detail}".rstrip()) from None


def _assert_alike(first: Path, base: Path, checkpoint: Checkpoint) -> None:
    """Refuse what a server keeps from the folder that it was started with, where a checkpoint has it otherwise.

    Raises:
        CheckpointError: shape, processor, chat template or end tokens differ.
    """
    from specs_eval.backends.hf import loading

    one, other = loading.architecture(first), loading.architecture(base)
    problem = f"its configuration differs ({loading.difference(one, other)})" if one != other else None
    if loading.processor_digest(first) != loading.processor_digest(loading.processor_folder(checkpoint)):
        problem = problem or "its tokenizer, processor or chat template differs"
    if _end_tokens(first) != _end_tokens(base):
        problem = problem or "its end tokens differ"
    if problem is not None:
        raise CheckpointError(
            f"it does not fit the server that was started with {first}: {problem}; serve it by itself"
        )


def _end_tokens(folder: Path) -> object:
    try:
        return json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return None
