"""A reward model behind HTTP: conversations and candidates in, raw rewards out.

    protocol     wire types                     client       callers of the service
    app          routes and error answers       device       admission and the one device thread
    engine       ids to rewards                 rendering    conversation to ids
    fingerprint  what makes a reward            server       model, app and socket put together

``protocol`` and ``client``, ``config`` and ``errors`` need no torch. The server knows nothing of
policies or rounds.
"""
