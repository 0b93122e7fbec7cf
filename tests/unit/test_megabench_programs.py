"""Programs in answers: run only in a sandbox, which keeps them from everything."""

import pytest

from specs_eval.errors import ScoringError
from specs_eval.tasks.megabench.metrics.programs import share_of_tests_passed
from specs_eval.tasks.megabench.sandbox import isolation


@pytest.fixture(scope="module", autouse=True)
def _sandbox():
    try:
        isolation.sandbox_command()
    except ScoringError as error:
        pytest.skip(str(error))


def test_share_of_tests():
    cases = [{"input": ["2"], "expected": "4\n"}, {"input": ["3"], "expected": "5"}]
    assert share_of_tests_passed("print(int(input()) ** 2)", {"test_case": cases}) == 0.5
    assert share_of_tests_passed("print(4)", {"test_case": {"input": [], "expected": "4"}}) == 1.0
    assert share_of_tests_passed(None, {"test_case": cases}) == 0.0


def test_official_quirks_of_execution():
    recursive = "def f(n):\n    return 1 if n == 0 else n * f(n - 1)\nprint(f(5))"
    main = 'def g():\n    print(7)\nif __name__ == "__main__":\n    g()'
    (output,) = isolation.run_program(recursive, [[]])
    assert "not defined" in output
    assert isolation.run_program(main, [[]]) == ["7"]
    assert isolation.run_program("print(1)\nimport sys\nsys.exit(0)", [[]]) == [None]


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd').read()",
        "open('/tmp/x', 'w')",
        "import os; os.fork()",
        "import os; os.kill(os.getppid(), 9)",
        "import subprocess; subprocess.run(['ls'])",
        "import socket; socket.socket()",
        "x = [0] * 10**10",
    ],
)
def test_a_program_reaches_nothing(code):
    (output,) = isolation.run_program(code, [[]])
    assert output is None or output.startswith("ERROR")
    assert isolation.run_program("print('alive')", [[]]) == ["alive"]


def test_endless_programs_end():
    assert isolation.run_program("while True: pass", [[]]) == [None]
    assert isolation.run_program("print('a' * 10**6)", [[]]) == [None]
