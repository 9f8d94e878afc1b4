"""``medpref bench before-after``: the base and the final policy of a run on the same questions.

- ``options``: what may be asked for
- ``runs``: what a run folder says of the run
- ``serving``: a policy server with both versions
- ``heldout``: the run's own held-out questions, and what is kept of their answers
- ``asking``: asks them, resumable
- ``comparison``: one comparison, from the first file read to the last file written
- ``changes``: two lists of answers become scores and differences (pure)
- ``verdict``, ``wording``: what may be said of them (pure)
- ``results``, ``summary``: ``results.json``, and from a folder to it
- ``report``, ``drawing``, ``page``: the tables and ``report.html``
- ``job``: the command

Knows of the loop only what a run folder shows to everyone.
"""
