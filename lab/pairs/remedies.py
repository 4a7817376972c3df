"""Apply the remedy that a finding of a check proposes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .checks import Finding
from .pair import Pair, PairsError

if TYPE_CHECKING:
    from .store import PairStore


def apply_remedy(
    store: PairStore, finding: Finding, *, author: str | None = None, reason: str = "", expected_version: int | None = None
) -> Pair:
    """Make the change that a finding proposes for its pair; the log names the check as the reason. One undo takes it back.

    Args:
        store: The pair set.
        finding: A finding with a remedy.
        author: Name for the log; by default that of `lab.home.author`.
        reason: Added to the reason in the log.
        expected_version: Version of the pair that the finding was read with.

    Raises:
        PairsError: The finding has no remedy, or the change is refused (see `PairStore.edit`). Nothing changes.
    """
    why = f"check {finding.check}" + (f", {reason}" if reason else "")
    if finding.remedy == "swap":
        return store.swap(finding.pair_id, author=author, reason=why, expected_version=expected_version)
    if finding.remedy == "drop":
        return store.drop(finding.pair_id, author=author, reason=why, expected_version=expected_version)
    if finding.remedy == "edit":
        texts = dict(finding.proposal)
        return store.edit(finding.pair_id, **texts, author=author, reason=why, expected_version=expected_version)
    if finding.remedy == "tag":
        tags = (*store.get(finding.pair_id).tags, finding.proposal["tag"])
        return store.edit(finding.pair_id, tags=tags, author=author, reason=why, expected_version=expected_version)
    raise PairsError(f"The finding of {finding.check} in pair {finding.pair_id} proposes no change; decide by hand.")
