"""Best of N: what choosing by reward gains over voting and over chance, on the same samples.

- ``options``: what may be asked for
- ``samples``: a question with the policy's samples, and who has such
- ``of_suites``, ``of_world``: questions with a right option, questions with a gold measure
- ``rewards``: what a reward model says of the samples, resumable
- ``curves``: the expected value of what each way of choosing takes (pure)
- ``results``, ``summary``: ``results.json``, and how it comes from samples and rewards
- ``report``, ``drawings``, ``page``: the same for people
- ``job``: the command
"""
