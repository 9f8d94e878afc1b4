"""Rewards a second and a request, this server beside its rivals in one run.

See docs/throughput.md for the method. The modules:

- ``options``: what may be asked for
- ``models``: the reward model, made on the spot or given
- ``workloads``: groups of known lengths (pure)
- ``methods``: what every way of scoring has in common
- ``ours``: this server, its engine in process and over HTTP
- ``transformers_rival``, ``vllm_rival``: the others
- ``timing``: tuning, and interleaved repetitions
- ``correctness``: rewards compared with each other and with a float32 forward (pure)
- ``ceiling``: what the matrix products alone would allow
- ``latency``: one request at a time, and fixed arrival rates
- ``report``: the tables and the JSON document (pure)
- ``session``: model, servers and methods, opened
- ``comparison``: the phases of one run, in order
- ``job``: the command, flags in, tables and document out
"""
