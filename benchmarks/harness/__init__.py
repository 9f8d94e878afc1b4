"""A deployed policy under lm-evaluation-harness 0.4.13, by ``medpref bench harness``.

The harness has a model of its own for such servers, ``local-completions``. It does not do for a
policy:

- it sends one seed with every request, so the repeats of a task that samples are all the same;
- it takes the tokenizer from where it runs, or from a route that vLLM serves only on demand, and in
  both cases leaves out the BOS that the server itself puts before a text;
- with a chat template it shows the model the tokenizer's, not the one that is deployed, or scores
  no continuations at all (``local-chat-completions``);
- what the model's ``generation_config.json`` asks for, such as a repetition penalty, stays on;
- it assumes 2048 tokens and cuts longer texts, whatever the server allows;
- a refusal is repeated three times like a failure, and a server that restarts ends the run.

The modules:

- ``wire``: what is asked of the server, and the client that asks
- ``tokens``: the harness's rules on tokens (pure)
- ``generation``: what a task may ask of a generation (pure)
- ``options``: what may be set of the model
- ``model``: the harness's model class; it alone imports the harness
- ``command``: flags in, the harness's own command line out
"""
