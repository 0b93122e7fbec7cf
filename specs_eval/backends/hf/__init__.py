"""The hf backend: any transformers image-text model, k rollouts from one prefill and one vision pass.

The way of a batch: `chats` turns requests into tensors, `prompts` prefills them, `layouts` holds the key-value cache
with k rollouts on each prompt, `rollouts` runs the loop, `choosing` draws tokens, `token_statistics` measures them,
`canonical` settles the draws that rounding could flip. `loading` and `weights` bring models in, `probe` checks that a
model is decoded correctly before it answers anything.
"""

from specs_eval.backends.hf.backend import HFBackend

__all__ = ["HFBackend"]
