"""The openai backend: any OpenAI-compatible endpoint, such as ``vllm serve``.

The way of a request: `messages` turns a chat into JSON, `requests` adds how to draw, `client` sends it through `balancing`
and tries again what may pass, `replies` reads what comes back and trusts none of it, `statistics` measures where
log-probabilities allow it. `served` finds out which model answers, `dialect` what the endpoint understands.
"""

from specs_eval.backends.endpoint.backend import EndpointBackend

__all__ = ["EndpointBackend"]
