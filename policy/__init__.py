"""The policy: sampled over HTTP, served by vLLM, trained with TRL, and deployed with proof.

``client`` and ``protocol`` are light: they import no torch, vllm or ray.
"""
