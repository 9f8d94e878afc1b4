"""Long answers, held to statements by a judge: K-QA's completeness and hallucination.

- ``options``: what may be asked for
- ``questions``: the data
- ``answers``: who gives the answers: a policy server, or a file
- ``verdicts``: what the judge is asked, and what it said (pure)
- ``scores``: completeness and hallucination (pure)
- ``run``: every question answered and judged, resumable
- ``results``, ``summary``: ``results.json``, and how it comes from verdicts
- ``report``: the tables
- ``job``: the command
"""
