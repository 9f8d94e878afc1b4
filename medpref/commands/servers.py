"""What the commands that ask a running reward server share: flags, key, patience.

A command first meets the server, which is over soon where nobody answers. The job that follows
outlives a restart of the server and waits out a quota.
"""

from __future__ import annotations

from dataclasses import replace

from foundation.parsing import read_key
from foundation.settings import Settings
from reward_server.client import FIRST_CONTACT, PATIENCE, ClientOptions, RewardClient
from reward_server.protocol import ModelInfo


class ServerSettings(Settings):
    """The flags that say which server."""

    server: str
    """Where the reward server listens, such as ``http://127.0.0.1:8100``."""

    api_key_env: str | None = None
    """Environment variable that holds the server's key."""

    def client_options(self, model: str = "default") -> ClientOptions:
        """How a job that nobody watches asks for a model.

        Raises:
            UserError: if the variable of the key is not set, or holds what is no key.
        """
        key = read_key(self.api_key_env)
        return ClientOptions(model=model, api_key=key, lane="bulk", retry=PATIENCE)


class ModelSettings(ServerSettings):
    """The flags that say which model of which server."""

    model: str = "default"
    """Name of the reward model."""


def meet(url: str, options: ClientOptions) -> ModelInfo:
    """The model that is served now under the options' name, asked for without patience.

    Raises:
        UnknownModel: if there is none.
        RewardServerError: what else the server said.
        RewardServerUnreachable: if it does not answer.
    """
    with RewardClient(url, replace(options, retry=FIRST_CONTACT)) as client:
        return client.model()
