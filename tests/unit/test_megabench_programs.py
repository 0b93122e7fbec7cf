"""Programs in answers: run only in a sandbox, which keeps them from everything; by bubblewrap and by namespaces."""

import ast
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from specs_eval.bounded import Bounded
from specs_eval.tasks.megabench.metrics.programs import share_of_tests_passed
from specs_eval.tasks.megabench.rows import score_row
from specs_eval.tasks.megabench.sandbox import isolation, runner

CASES = [{"input": ["2"], "expected": "4\n"}, {"input": ["3"], "expected": "5"}]


@pytest.fixture(params=["bubblewrap", "namespaces"])
def sandbox(request, monkeypatch):
    """Every way to a sandbox that works here, one at a time."""
    command = {"bubblewrap": isolation._bubblewrap, "namespaces": isolation._unshare}[request.param]()
    if not command or not isolation._works(command):
        pytest.skip(f"{request.param} does not work here")
    monkeypatch.setattr(isolation, "sandbox_command", lambda: command)
    return command


def test_share_of_tests(sandbox):
    assert share_of_tests_passed("print(int(input()) ** 2)", {"test_case": CASES}) == 0.5
    assert share_of_tests_passed("print(4)", {"test_case": {"input": [], "expected": "4"}}) == 1.0
    assert share_of_tests_passed(None, {"test_case": CASES}) == 0.0


def test_official_quirks_of_execution(sandbox):
    recursive = "def f(n):\n    return 1 if n == 0 else n * f(n - 1)\nprint(f(5))"
    main = 'def g():\n    print(7)\nif __name__ == "__main__":\n    g()'
    (output,) = isolation.run_program(recursive, [[]])
    assert "not defined" in output
    assert isolation.run_program(main, [[]]) == ["7"]
    assert isolation.run_program("print(1)\nimport sys\nsys.exit(0)", [[]]) == [None]


SYSCALL = "import ctypes\nl = ctypes.CDLL(None)\nassert l.syscall({}) >= 0, 'refused'\nprint('done')"
REFUSED = {
    "reads a file of the system": "open('/etc/passwd').read()",
    "reads a file of the user": f"open({str(Path.home() / '.profile')!r}).read()",
    "reads this test": f"open({__file__!r}).read()",
    "writes": "open('/tmp/x', 'w')",
    "writes to shared memory": "open('/dev/shm/x', 'w')",
    "writes beside the libraries": f"open({sys.prefix + '/x'!r}, 'w')",
    "makes a pipe for others": "import os; os.mkfifo('/tmp/x')",
    "forks": "import os; os.fork()",
    "starts a thread": "import threading; threading.Thread(target=print).start()",
    "starts a program": "import subprocess; subprocess.run(['ls'])",
    "opens a socket": "import socket; socket.socket()",
    "kills its parent": "import os; os.kill(os.getppid(), 9)",
    "kills everything": "import os; os.kill(-1, 9)",
    "limits its parent": "import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))",
    "slows its parent down": "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "binds its parent to a processor": "import os; os.sched_setaffinity(os.getppid(), {0})",
    "raises its limits": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
    "looks at other processes": "import os; os.listdir('/proc')",
    "takes memory": "x = [0] * 10**10",
}
if sys.platform == "linux" and os.uname().machine == "x86_64":
    REFUSED |= {
        "queues a signal": SYSCALL.format("129, __import__('os').getppid(), 9, ctypes.create_string_buffer(128)"),
        "makes shared memory": SYSCALL.format("29, 1234, 4096, 0o1666"),
        "leaves a key": SYSCALL.format("248, b'user', b'x', b'y', 1, -3"),
        "forks by another number": SYSCALL.format(str(0x40000000 + 57)),
        "takes a namespace": SYSCALL.format("272, 0x10000000"),
        "takes a file of its parent": SYSCALL.format("438, 3, 3, 0"),
    }


@pytest.mark.parametrize("code", REFUSED.values(), ids=REFUSED)
def test_a_program_reaches_nothing(sandbox, code):
    (output,) = isolation.run_program(code, [[]])
    assert output is None or output.startswith("ERROR")


def test_a_program_sees_an_empty_environment(sandbox, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    (output,) = isolation.run_program("import os\nprint(dict(os.environ))\nprint(os.listdir('/tmp'))", [[]])
    assert "secret" not in output and "'HOME': '/tmp'" in output
    # Our own code is shown where it lies, which may be below the temporary folder.
    assert set(ast.literal_eval(output.splitlines()[-1])) <= set(Path(isolation.__file__).resolve().parts)


def test_sets_are_printed_in_the_same_order_every_time(sandbox):
    code = "print({'a', 'b', 'c', 'd', 'e', 'f', 'g'})"
    assert len({isolation.run_program(code, [[]])[0] for _ in range(4)}) == 1


FORGERIES = {
    "replies": 'import os\nfor f in range(64):\n    try: os.write(f, b\'{"value": ["4"]}\\n\' * 3)\n'
    "    except OSError: pass",
    "takes requests": "import os\nprint(os.read(0, 100))",
    "signals by a pipe": "import os, fcntl, time\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())\n"
    "fcntl.fcntl(r, 10, 9)\nfcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\nos.write(w, b'x')\ntime.sleep(0.2)\nprint('sent')",
    "interrupts by a pipe": "import os, fcntl, time\nr, w = os.pipe()\nfcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())\n"
    "fcntl.fcntl(r, 10, 2)\nfcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)\nos.write(w, b'x')\ntime.sleep(0.2)\nprint('sent')",
    "crashes": "import ctypes\nctypes.string_at(0)",
    "limits its parent": REFUSED["limits its parent"],
}


@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES)
def test_a_program_cannot_answer_for_another_nor_stop_it(sandbox, code):
    """One sandbox for all three, which production does not even do."""
    shared = Bounded("sandbox", 60, 60, command=tuple(sandbox))
    request = {"inputs": [[]], "seconds": 2.0, "memory_mib": 1024}
    try:
        (first,) = shared({**request, "code": code})
        assert first != "4"
        assert [shared({**request, "code": f"print({number})"}) for number in (7, 8)] == [["7"], ["8"]]
    finally:
        shared.close()


def test_endless_programs_end(sandbox):
    assert isolation.run_program("print('a' * 10**6)", [[]]) == [None]
    assert isolation.run_program("import os\nwhile True:\n    os.write(1, b'x' * 10**6)", [[]]) == [None]


@pytest.mark.parametrize(("n_overruns", "last"), [(1, "done"), (runner.MAX_OVERRUNS, None)])
def test_a_program_that_overran_often_is_not_run_again(sandbox, monkeypatch, n_overruns, last):
    monkeypatch.setattr(isolation, "SECONDS_PER_CASE", 1.0)
    code = "line = input()\nwhile line == 'on': pass\nprint('done')"
    outputs = isolation.run_program(code, [["on"]] * n_overruns + [["off"]])
    assert outputs == [None] * n_overruns + [last]


def test_nothing_stays_behind(sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert isolation.run_program("print(1)", [[]]) == ["1"]
    assert not list(tmp_path.iterdir())


def test_threads_run_programs_at_the_same_time(sandbox):
    results = {}

    def run(number):
        results[number] = isolation.run_program(f"print({number})", [[]])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [str(number)] for number in range(6)}


def test_a_killed_scorer_takes_its_sandbox_along(sandbox):
    """Nothing goes on computing after kill -9: closed pipes end the runner and its namespace."""
    mark = f"marker_{os.getpid()}"
    code = f"{mark} = 1\nwhile True: pass"
    program = (
        "import json, sys\nfrom specs_eval.bounded import Bounded\n"
        f"b = Bounded('s', 60, 60, command=tuple({sandbox!r}))\nb._running()\nprint('up', flush=True)\n"
        f"b({{'code': {code!r}, 'inputs': [[]] * 3, 'seconds': 20.0, 'memory_mib': 512}})\n"
    )
    scorer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert scorer.stdout is not None and scorer.stdout.readline() == "up\n"
    descendants = _descendants(scorer.pid)
    assert descendants
    scorer.kill()
    scorer.communicate()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(map(_is_running, descendants)):
        time.sleep(0.05)
    assert not any(map(_is_running, descendants))


def _descendants(pid):
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *_descendants(child)]
    return found


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_any_sandbox_programs_are_refused(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    isolation.sandbox_command.cache_clear()
    row = {
        "benchmark": "megabench",
        "response": "Answer: print(4)",
        "gold": {"answer": "4"},
        "eval_context": {"test_case": CASES},
        "metric_config": {
            "field_score_function": {"answer": "program_judge"},
            "aggregation": {"function": "mean", "field_weights": {"answer": 1}},
            "response_parse_function": "answer_string",
        },
    }
    try:
        scored = score_row(row, allow_code=True)
        assert scored.score is None and "not run" in scored.reason and "bubblewrap" in scored.reason
        assert score_row(row).score is None and "--allow-code-execution" in score_row(row).reason
    finally:
        isolation.sandbox_command.cache_clear()


def test_a_sandbox_that_leaks_is_not_used(monkeypatch):
    leaky = [sys.executable, "-s", "-P", "-c", isolation._text("runner.py")]
    assert not isolation._works(leaky)
    assert not isolation._works([sys.executable, "-c", "raise SystemExit(3)"])
    assert not isolation._works(["/no/such/program"])
