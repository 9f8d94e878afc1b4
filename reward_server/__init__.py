"""Reward models behind HTTP: conversations and candidates in, raw rewards out.

    protocol, client      wire types and callers          requests, exchange  the client's rules
    app, routes, compat   the application and its wires   service             one request
    registry, swap        what is served, hot swap        scorers             the kinds of reward
    pipeline, batcher     render, admit, batch            planner             what is next
    engine                forward passes, with torch      rendering           text to ids
    access, audit         who asked, what was answered    fingerprint         which model
    calibration, drift, canary   against a reference      bulk, integrations  for callers
    local, training       without a server                ray_serve           replicas

What a client needs imports no torch. The server knows nothing of policies or rounds.
"""
