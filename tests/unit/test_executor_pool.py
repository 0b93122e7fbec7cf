"""The pool of workers without any cluster: losses at every place, failures of every kind, and nothing lost or doubled."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeBackend, FakeTask, ListObserver, fake_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from specs_eval.backends.base import BackendOptions
from specs_eval.chat import ImagePart, LazyImage, user_chat
from specs_eval.checkpoints import Checkpoint
from specs_eval.errors import CheckpointError, ConfigError, GenerationError, StoreError
from specs_eval.executors.parallel import evaluate_parallel
from specs_eval.executors.pool import MAX_ATTEMPTS, Pool, WorkerLostError
from specs_eval.executors.worker import EngineWorker, Reply, Work, WorkerFacts, portable
from specs_eval.runner import Evaluation, RunRequest, evaluate
from specs_eval.sampling import SamplingSpec
from specs_eval.store import RunStore


class FakeCluster:
    """Workers in this process that do their work when they are waited for; some die on what they are told."""

    def __init__(self, dies: Callable[[int, Work | None], bool] = lambda n, work: False) -> None:
        self.dies = dies
        self.numbers = itertools.count()
        self.n_calls = itertools.count()
        self.engines: dict[int, FakeBackend] = {}
        self.futures: dict[int, tuple[int, Work | None]] = {}
        self.stopped: list[int] = []
        self.n_loads = 0
        self.make: Callable[[int], FakeBackend] = lambda number: FakeBackend()
        self.loaded: dict[int, str] = {}

    def start(self) -> Hashable:
        number = next(self.numbers)
        self.engines[number] = self.make(number)
        return number

    def describe(self, worker: int) -> Hashable:
        return self._future(worker, None)

    def answer(self, worker: int, work: Work) -> Hashable:
        assert worker in self.engines, "a lost worker was asked"
        return self._future(worker, pickle.loads(pickle.dumps(portable(work))))

    def _future(self, worker: int, work: Work | None) -> int:
        number = next(self.n_calls)
        self.futures[number] = (worker, work)
        return number

    def wait(self, futures: Sequence[int], timeout: float) -> Sequence[Hashable]:
        return futures[-1:]  # the one that was asked last: replies come out of order

    def result(self, future: int) -> Any:
        worker, work = self.futures.pop(future)
        if self.dies(future, work):
            self.engines.pop(worker, None)
            raise WorkerLostError("killed")
        engine = self.engines[worker]
        if work is None:
            return WorkerFacts(engine.numerics, (engine.block,) * 1024, "fake", "here", worker)
        if self.loaded.get(worker) != work.checkpoint.name:
            self.loaded[worker] = work.checkpoint.name
            self.n_loads += 1
        try:
            engine.load(work.checkpoint)
            answers = tuple(
                (asked.sample_id, tuple(found)) for asked, found in engine.generate(work.requests, work.spec)
            )
            return Reply(answers)
        except CheckpointError as error:
            return Reply(error=str(error), kind="checkpoint")

    def stop(self, worker: int) -> None:
        self.stopped.append(worker)
        self.engines.pop(worker, None)

    def close(self) -> None:
        self.engines.clear()


CHECKPOINTS = [fake_checkpoint(f"s/checkpoint-{n}", str(n) * 64, n) for n in (1, 2, 3)]
REQUEST = RunRequest([FakeTask(20), FakeTask(9, "other")], 3)


def in_parallel(
    root: Path, cluster: FakeCluster, n_workers: int = 3, request: RunRequest = REQUEST
) -> tuple[Evaluation, ListObserver]:
    observer = ListObserver()
    with Pool(cluster, n_workers, observer.problem) as pool:
        return evaluate_parallel(CHECKPOINTS, request, RunStore.create(root), pool, observer), observer


def locally(root: Path, request: RunRequest = REQUEST) -> Evaluation:
    return evaluate(CHECKPOINTS, request, RunStore.create(root), FakeBackend(), ListObserver())


def assert_same_stores(one: Path, other: Path) -> None:
    """Every table to the last bit, every total, and each rollout in each journal once."""
    first, second = (RunStore.open(root).runs() for root in (one, other))
    assert [run.run_id for run in first] == [run.run_id for run in second]
    for mine, theirs in zip(first, second, strict=True):
        assert mine.complete and mine.table().equals(theirs.table())
        assert (mine.directory / "results.json").read_bytes() == (theirs.directory / "results.json").read_bytes()
        keys = [(rollout.sample_id, rollout.rollout) for rollout in mine.rollouts()]
        assert len(keys) == len(set(keys)) == mine.table().num_rows


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("reference") / "runs"
    locally(root)
    return root


@settings(max_examples=15, deadline=None)
@given(n_workers=st.integers(1, 5), deaths=st.sets(st.integers(0, 40), max_size=6))
def test_any_losses_lose_and_double_nothing(
    tmp_path_factory: pytest.TempPathFactory, reference: Path, n_workers: int, deaths: set[int]
) -> None:
    root = tmp_path_factory.mktemp("parallel") / "runs"
    seen: dict[str, int] = {}

    def dies(call: int, work: Work | None) -> bool:
        """At chosen calls, but never three times on the same block, nor all workers in a row."""
        if call not in deaths or work is None:
            return False
        key = f"{work.checkpoint.name}{work.requests}"
        seen[key] = seen.get(key, 0) + 1
        return seen[key] < MAX_ATTEMPTS

    evaluation, _ = in_parallel(root, FakeCluster(dies), n_workers)
    assert evaluation.problems == [] and len(evaluation.runs) == 6
    assert_same_stores(root, reference)


def test_results_come_in_the_order_of_the_units_and_are_those_of_one_engine(tmp_path: Path, reference: Path) -> None:
    evaluation, observer = in_parallel(tmp_path / "runs", FakeCluster())
    names = [(run.manifest.checkpoint.name, run.manifest.task) for run in evaluation.runs]
    assert names == [(checkpoint.name, task) for checkpoint in CHECKPOINTS for task in ("fake", "other")]
    assert observer.n_rollouts == 3 * 29 * 3
    assert_same_stores(tmp_path / "runs", reference)
    assert evaluation.runs[0].manifest.environment["device"] == "fake"


def test_an_interrupted_local_run_is_continued_by_a_pool(tmp_path: Path, reference: Path) -> None:
    backend = FakeBackend()
    backend.die_after = 30
    with pytest.raises(KeyboardInterrupt):
        evaluate(CHECKPOINTS, REQUEST, RunStore.create(tmp_path / "runs"), backend, ListObserver())
    in_parallel(tmp_path / "runs", FakeCluster())
    assert_same_stores(tmp_path / "runs", reference)


def test_workers_keep_their_checkpoint_where_they_can(tmp_path: Path) -> None:
    cluster = FakeCluster()
    in_parallel(tmp_path / "runs", cluster)
    n_blocks = 3 * (5 + 3)
    assert 3 <= cluster.n_loads < n_blocks / 2


def test_a_block_that_kills_its_workers_fails_alone(tmp_path: Path) -> None:
    def dies(call: int, work: Work | None) -> bool:
        return work is not None and work.checkpoint.step == 2 and work.requests[0].sample_id == "s0004"

    evaluation, observer = in_parallel(tmp_path / "runs", FakeCluster(dies))
    assert evaluation.problems == [] and evaluation.n_failed() == 2 * 4 * 3
    failed = [r for run in evaluation.runs for r in run.rollouts() if r.failed]
    assert {r.sample_id for r in failed} == {"s0004", "s0005", "s0006", "s0007"}
    assert all("it cost 3 workers, the last one as killed" in (r.reason or "") for r in failed)
    assert sum("a worker was lost (killed); its 4 samples are asked again" in line for line in observer.lines) >= 4


def test_workers_that_never_come_up_end_it_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no worker came up: .* workers in a row were lost, the last one as killed"):
        in_parallel(tmp_path / "runs", FakeCluster(lambda call, work: work is None))


def test_a_cluster_that_has_no_room_yet_is_waited_for_and_told_once(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, has_room = FakeCluster(), threading.Event()

    class Listener(ListObserver):
        def problem(self, text: str) -> None:
            super().problem(text)
            has_room.set()

    give, observer = cluster.wait, Listener()

    def wait(futures: Sequence[int], timeout: float) -> Sequence[Hashable]:
        return give(futures, timeout) if has_room.wait(timeout) else ()

    monkeypatch.setattr(cluster, "wait", wait)
    monkeypatch.setattr("specs_eval.executors.pool.PATIENCE_SECONDS", 0.01)
    with Pool(cluster, 2, observer.problem) as pool:
        evaluate_parallel(CHECKPOINTS, REQUEST, RunStore.create(tmp_path / "runs"), pool, observer)
    assert sum("no worker has come up" in line for line in observer.lines) == 1
    assert_same_stores(tmp_path / "runs", reference)


def test_workers_that_all_die_later_end_every_unit(tmp_path: Path) -> None:
    evaluation, _ = in_parallel(tmp_path / "runs", FakeCluster(lambda call, work: call > 8))
    assert len(evaluation.problems) == 3 and all("in a row were lost" in text for text in evaluation.problems)


def test_a_worker_of_another_kind_is_not_used(tmp_path: Path, reference: Path) -> None:
    class Half(FakeBackend):
        numerics = "fake/bfloat16"

    cluster = FakeCluster()
    cluster.make = lambda number: Half() if number == 0 else FakeBackend()
    evaluation, observer = in_parallel(tmp_path / "runs", cluster)
    assert evaluation.problems == [] and sum("would not answer as" in line for line in observer.lines) == 1
    assert cluster.stopped[0] == 0 and sorted(cluster.stopped) == [0, 1, 2]  # the others at the end
    assert_same_stores(tmp_path / "runs", reference)


def test_a_checkpoint_that_does_not_load_is_one_problem_and_the_others_go_on(tmp_path: Path) -> None:
    class Picky(FakeBackend):
        def load(self, checkpoint: Checkpoint) -> None:
            if checkpoint.step == 2:
                raise CheckpointError("cut off")

    cluster = FakeCluster()
    cluster.make = lambda number: Picky()
    evaluation, _ = in_parallel(tmp_path / "runs", cluster)
    assert evaluation.problems == ["s/checkpoint-2: cut off"] and len(evaluation.runs) == 4


def test_a_store_that_refuses_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr("specs_eval.journal.Journal.append", refuse)
    with pytest.raises(StoreError, match="disk full"):
        in_parallel(tmp_path / "runs", FakeCluster())
    assert not [thread for thread in threading.enumerate() if thread.name == "pool"]


def test_a_cluster_that_breaks_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()

    def broken(worker: int, work: Work) -> Hashable:
        raise RuntimeError("no connection")

    monkeypatch.setattr(cluster, "answer", broken)
    evaluation, _ = in_parallel(tmp_path / "runs", cluster)
    assert len(evaluation.problems) == 3 and all("no connection" in text for text in evaluation.problems)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> EngineWorker:
    monkeypatch.setattr("specs_eval.backends.registry.create_backend", lambda name, options: FakeBackend())
    return EngineWorker("fake", BackendOptions())


def test_a_worker_says_what_is_wrong_instead_of_dying(
    worker: EngineWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = worker.describe()
    assert facts.numerics == "fake/float64" and set(facts.block_sizes) == {4}
    here = Checkpoint(tmp_path, "a", "a", None, "a" * 64)
    gone = Checkpoint(tmp_path / "gone", "a", "a", None, "b" * 64)
    assert worker.answer(Work(here, (), SamplingSpec())).error is None
    reply = worker.answer(Work(gone, (), SamplingSpec()))
    assert reply.kind == "checkpoint" and "workers need the same file system" in (reply.error or "")
    with pytest.raises(CheckpointError):
        reply.raise_error()
    for error, expected in ((GenerationError("x"), GenerationError), (KeyError("y"), GenerationError)):

        def broken(self: FakeBackend, checkpoint: Checkpoint, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(FakeBackend, "load", broken)
        with pytest.raises(expected):
            worker.answer(Work(another(here), (), SamplingSpec())).raise_error()


def another(checkpoint: Checkpoint) -> Checkpoint:
    """The same folder as another checkpoint, so that it is loaded anew."""
    return Checkpoint(checkpoint.path, "c", "c", None, "c" * 64)


def test_pictures_travel_with_their_question(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.new("RGBA", (5, 4), (1, 2, 3, 0))
    picture.save(tmp_path / "a.png")
    parts = [
        ImagePart(tmp_path / "a.png"),
        ImagePart((tmp_path / "a.png").read_bytes()),
        ImagePart(picture),
        LazyImage(lambda: ImagePart(picture), "0" * 64),
    ]
    from specs_eval.backends.base import Request

    work = Work(
        fake_checkpoint(), (Request("s", 1, user_chat(*parts, ImagePart(tmp_path / "no.png")), (0,)),), SamplingSpec()
    )
    moved = pickle.loads(pickle.dumps(portable(work)))
    (tmp_path / "a.png").unlink()
    *there, broken = [part for message in moved.requests[0].chat for part in message.parts]
    for part, before in zip(there, [parts[2]] * 4, strict=True):
        for on_white in (False, True):
            assert part.load(on_white=on_white).tobytes() == before.load(on_white=on_white).tobytes()
    with pytest.raises(GenerationError, match="does not decode: FileNotFoundError"):
        broken.load()
