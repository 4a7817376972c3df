"""Names of the findings from runs."""

from __future__ import annotations

EVIDENCE = {
    "probably_flipped": ("Probably flipped", "Short runs and word sequences without the pair speak for its rejected answer."),
    "never_learned": ("Never learned", "The model did not come to prefer the chosen answer, however often it was trained on it."),
    "forgotten": ("Forgotten", "The model preferred the chosen answer at first and did not at the end."),
}
"""Title and explanation of every finding from runs, by its name."""
