"""Groups of runs that differ only in their seed: one curve each, with an interval over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

IGNORED = ("seed", "template_time, day")
"""Settings in which runs of a group may differ: a sweep of seeds may take longer than a day."""

MOST_SETTINGS = 2
"""Most settings in a label."""


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
    groups: Sequence[tuple[int, ...]],
    seeds: Sequence[int],
    names: Sequence[str],
    objectives: Sequence[str],
    settings: Sequence[Mapping[str, str]],
) -> list[Group]:
    """Give every group its label: a letter and the name of its run, or the name that its runs share, else their objective.

    Groups of the same name also have the settings that differ between them, so that a legend tells them apart.

    Args:
        groups: Positions of the runs of each group.
        seeds: Seed of each run.
        names: Display name of each run.
        objectives: Name of each run's objective.
        settings: Settings of each run, as from `lab.comparison.settings.settings_of`.
    """
    labels = []
    own_names = [_name([names[member] for member in members], objectives[members[0]]) for members in groups]
    for number, (members, name) in enumerate(zip(groups, own_names)):
        namesakes = [settings[other[0]] for other, its in zip(groups, own_names) if its == name]
        name += _distinctions(settings[members[0]], namesakes)
        count = f", {len(members)} seeds" if len(members) > 1 else ""
        labels.append(Group(f"{chr(65 + number)} {name}{count}", members, tuple(seeds[member] for member in members)))
    return labels


def _name(names: Sequence[str], objective: str) -> str:
    return names[0] if len(set(names)) == 1 else objective


def _distinctions(own: Mapping[str, str], namesakes: Sequence[Mapping[str, str]]) -> str:
    """Return the parameters and settings in which a group differs from others of its name: " learning_rate=0.0004"; else ""."""
    paths = [path for path in own if path not in IGNORED and " " not in path]
    differing = [path for path in paths if len({settings.get(path) for settings in namesakes}) > 1]
    some = [f"{path.removeprefix('objective.')}={own[path]}" for path in differing[:MOST_SETTINGS]]
    more = [f"{len(differing) - MOST_SETTINGS} more"] if len(differing) > MOST_SETTINGS else []
    return f" {' '.join([*some, *more])}" if some else ""
