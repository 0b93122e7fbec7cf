"""How vLLM runs in these tests: on one CPU thread, in the test's own process, without compiling anything."""

import importlib.util
import os

HAS_VLLM = importlib.util.find_spec("vllm") is not None

if HAS_VLLM:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    # A core in a process of its own takes half a minute more to start; test_in_process.py has one test of it.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
