"""Groups of runs that differ only in their seed: one curve each, with an interval over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

IGNORED = ("seed", "template_time, day")
"""Settings in which runs of a group may differ: a sweep of seeds may take longer than a day."""


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, or a single run.

    Attributes:
        label: Label of its curve: a letter, a name and, with several runs, their number.
        members: Positions of its runs among all that are compared.
        seeds: Seed of each of them.
    """

    label: str
    members: tuple[int, ...]
    seeds: tuple[int, ...]

    @property
    def letter(self) -> str:
        """The letter at the beginning of the label."""
        return self.label.split()[0]

    @property
    def single(self) -> bool:
        """Whether it is a single run."""
        return len(self.members) == 1

    @property
    def member_labels(self) -> list[str]:
        """The label of each of its runs, with its seed if there are several."""
        if self.single:
            return [self.label]
        return [f"{self.label.rsplit(',', 1)[0]}, seed {seed}" for seed in self.seeds]


def seed_groups(settings: Sequence[Mapping[str, str]]) -> list[tuple[int, ...]]:
    """Return the positions of runs that have equal settings except for the seed, in order of their first run.

    Of several runs with the same seed only the first joins a group, because a repeated seed is not another sample; the next ones
    form another group.

    Args:
        settings: Settings of each run, as from `lab.comparison.settings.settings_of`.
    """
    groups: dict[tuple[frozenset[tuple[str, str]], int], list[int]] = {}
    repeats: dict[tuple[frozenset[tuple[str, str]], str], int] = {}
    for number, own in enumerate(settings):
        shared = frozenset((name, value) for name, value in own.items() if name not in IGNORED)
        repeat = repeats[shared, own["seed"]] = repeats.get((shared, own["seed"]), -1) + 1
        groups.setdefault((shared, repeat), []).append(number)
    return [tuple(members) for members in groups.values()]


def labelled(
    groups: Sequence[tuple[int, ...]], seeds: Sequence[int], names: Sequence[str], objectives: Sequence[str]
) -> list[Group]:
    """Give every group its label: a letter and the name of its run, or the name that its runs share, else their objective.

    Args:
        groups: Positions of the runs of each group.
        seeds: Seed of each run.
        names: Display name of each run.
        objectives: Name of each run's objective.
    """
    labels = []
    for number, members in enumerate(groups):
        shared = {names[member] for member in members}
        name = shared.pop() if len(shared) == 1 else objectives[members[0]]
        count = f", {len(members)} seeds" if len(members) > 1 else ""
        labels.append(Group(f"{chr(65 + number)} {name}{count}", members, tuple(seeds[member] for member in members)))
    return labels
