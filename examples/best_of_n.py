"""Which of several answers does a reward model prefer?

medpref serve reward --model runs/quickstart-1/reward_model --port 8100
python examples/best_of_n.py http://127.0.0.1:8100
"""

from __future__ import annotations

import sys

from corpora.conversation import Conversation
from reward_server.client import RewardClient
from reward_server.integrations.best_of_n import best_of_n, rank

CONVERSATION = Conversation.ask("I have had a cold for two days. What helps a stuffy nose?")
CANDIDATES = [
    "Antibiotics will clear it up by tomorrow.",
    "Saline rinses and steam help, and it usually passes within ten days. See a doctor if you get"
    " a high fever or trouble breathing.",
    "Noses are often stuffy.",
]


def main() -> None:
    with RewardClient(sys.argv[1]) as client:
        for one in rank(client, CONVERSATION, CANDIDATES).ranked:
            sys.stdout.write(f"{one.reward:8.3f}  {one.candidate}\n")
        choice = best_of_n(client, CONVERSATION, CANDIDATES)
    sys.stdout.write(f"best: candidate {choice.index}, margin to the second {choice.margin}\n")


if __name__ == "__main__":
    main()
