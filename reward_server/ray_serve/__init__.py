"""Several processes of the one application, as a Ray Serve deployment that grows with the queue.

    client ── Serve's proxy, with Front ──┬── Replica: application, models, queue, cache
                                          └── Replica: …

Promises, each held by a test:

- a replica is the whole application of ``app.create_app``, run from start to drained stop;
- how much may wait is decided by the application, in tokens: Serve refuses nothing before it;
- replicas are added and removed by the tokens that wait for the devices;
- a replica that cannot score fails its health check, and Serve puts another one in its place;
- what no replica answered, because one died with it or none is there, gets a 503 that clients
  repeat, as scoring changes nothing;
- administration, which would reach one replica of several, is refused.

What stands here is named by others: a Serve config file, Ray's environment, the deployment itself.
Importing it needs neither ray nor torch: Serve's controller and proxies import it too.
"""

from reward_server.ray_serve.deployment import build
from reward_server.ray_serve.proxy import front
from reward_server.ray_serve.scaling import PendingTokens

__all__ = ["PendingTokens", "build", "front"]
