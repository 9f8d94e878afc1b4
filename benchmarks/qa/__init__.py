"""Medical question suites on the deployed policy.

- ``options``: what may be asked for
- ``suites``: the questions of each suite, with what they are pinned by
- ``prompts``: a question as a conversation (pure)
- ``voting``, ``likelihood``: which option several answers, or log-probabilities, choose (pure)
- ``answered``: what is kept of each question
- ``asking``: one question to the policy, in each mode
- ``run``: all questions, resumable
- ``boards``: scores as UltraMedical's table takes them (pure)
- ``results``, ``report``: ``results.json`` and the tables
- ``job``: the command
"""
