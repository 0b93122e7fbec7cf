"""The vllm backend: any image-text model that vLLM serves, in this process.

The way of a request: `prompts` renders its chat with the checkpoint's own template, as the hf backend does, and vLLM takes the
images once; k rollouts go to the engine as k requests on that one prompt (`rollouts`). In the engine's process `processor`
measures and draws at every step (`observing`), and `worker` hands the notes out. `engine` starts and steps vLLM,
`loading` brings the next checkpoint in, `weights_check` proves that it is there, `installation` knows which
vLLM will do.
"""

from specs_eval.backends.vllm.backend import VLLMBackend

__all__ = ["VLLMBackend"]
