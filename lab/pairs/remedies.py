"""Apply the remedy that a finding of a check proposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .checks import Finding
from .pair import Pair, PairsError

if TYPE_CHECKING:
    from .store import PairStore


def apply_remedy(
    store: PairStore,
    finding: Finding,
    *,
    tags: Sequence[str] = (),
    author: str | None = None,
    reason: str = "",
    expected_version: int | None = None,
) -> Pair:
    """Make the change that a finding proposes for its pair; the log names the check as the reason. One undo takes it back.

    Args:
        store: The pair set.
        finding: A finding with a remedy.
        tags: Tags that the pair gets in the same change, such as ("reviewed",); a pair that is dropped gets none.
        author: Name for the log; by default that of `lab.home.author`.
        reason: Added to the reason in the log.
        expected_version: Version of the pair that the finding was read with.

    Raises:
        PairsError: The finding has no remedy, or the change is refused (see `PairStore.edit`). Nothing changes.
    """
    why = f"check {finding.check}" + (f", {reason}" if reason else "")
    if finding.remedy not in ("swap", "drop", "edit", "tag"):
        raise PairsError(f"The finding of {finding.check} in pair {finding.pair_id} proposes no change; decide by hand.")
    if finding.remedy == "drop":
        return store.drop(finding.pair_id, author=author, reason=why, expected_version=expected_version)
    if finding.remedy == "swap" and not tags:
        return store.swap(finding.pair_id, author=author, reason=why, expected_version=expected_version)
    pair = store.get(finding.pair_id)
    texts = dict(finding.proposal) if finding.remedy == "edit" else {}
    if finding.remedy == "swap":
        texts = {"chosen": pair.rejected, "rejected": pair.chosen}
    added = (*pair.tags, *tags, *([finding.proposal["tag"]] if finding.remedy == "tag" else []))
    return store.edit(pair.id, **texts, tags=added, author=author, reason=why, expected_version=expected_version or pair.version)
