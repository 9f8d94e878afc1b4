"""What every room stands on: errors, settings, processes, reporting, the cache, statistics.

Nothing here knows of medicine, models or rounds, and nothing here imports torch, vllm or ray.
"""
