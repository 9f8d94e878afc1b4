"""The bundled quickstart world: everyday health questions with known true answers.

For demonstration of software, not medical advice.
"""

from corpora.clinic.gold import Grade, Grader
from corpora.clinic.knowledge import Combo, Condition, Intent, Knowledge, load_knowledge
from corpora.clinic.world import ClinicWorld

__all__ = [
    "ClinicWorld",
    "Combo",
    "Condition",
    "Grade",
    "Grader",
    "Intent",
    "Knowledge",
    "load_knowledge",
]
