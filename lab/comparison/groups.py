"""Groups of runs that differ only in their seed and what goes with it: one curve each, with an interval over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

IGNORED = ("seed", "template_time, day")
"""Settings in which runs of a group may differ: a sweep of seeds may take longer than a day."""

OF_PAIRS = ("pairs.store", "pairs.version", "pairs_version")
"""Settings that go with the seed where the pairs do."""

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


@dataclass(frozen=True)
class OfExperiment:
    """The place of a run in the experiment that it belongs to.

    Attributes:
        experiment: Name of the experiment; "" for a run of none.
        variant: Label of the run's variant there.
        with_seed: Settings that go with the seed there, such as the model.
    """

    experiment: str = ""
    variant: str = ""
    with_seed: tuple[str, ...] = ()


def seed_groups(settings: Sequence[Mapping[str, str]], places: Sequence[OfExperiment] = ()) -> list[tuple[int, ...]]:
    """Return the positions of runs that have equal settings except for the seed, in order of their first run.

    Runs of one experiment may also differ in the settings that go with the seed there.

    Of several runs with the same seed only the first joins a group, because a repeated seed is not another sample; the next ones
    form another group.

    Args:
        settings: Settings of each run, as from `lab.comparison.settings.settings_of`.
        places: Place of each run in its experiment; empty if none belongs to one.
    """
    groups: dict[tuple[frozenset[tuple[str, str]], int], list[int]] = {}
    repeats: dict[tuple[frozenset[tuple[str, str]], str], int] = {}
    for number, (own, place) in enumerate(zip(settings, places or [OfExperiment()] * len(settings))):
        ignored = {*IGNORED, *place.with_seed, *(OF_PAIRS if "pairs" in place.with_seed else ())}
        shared = frozenset((name, value) for name, value in own.items() if name not in ignored)
        if place.with_seed:
            shared |= {("experiment", place.experiment)}
        repeat = repeats[shared, own["seed"]] = repeats.get((shared, own["seed"]), -1) + 1
        groups.setdefault((shared, repeat), []).append(number)
    return [tuple(members) for members in groups.values()]


def labelled(
    groups: Sequence[tuple[int, ...]],
    seeds: Sequence[int],
    names: Sequence[str],
    objectives: Sequence[str],
    settings: Sequence[Mapping[str, str]],
    places: Sequence[OfExperiment] = (),
) -> list[Group]:
    """Give every group its label: a letter and the name or variant that its runs share, else their objective.

    Groups of the same name also have the settings that differ between them, so that a legend tells them apart.

    Args:
        groups: Positions of the runs of each group.
        seeds: Seed of each run.
        names: Display name of each run.
        objectives: Name of each run's objective.
        settings: Settings of each run, as from `lab.comparison.settings.settings_of`.
        places: Place of each run in its experiment; empty if none belongs to one.
    """
    labels = []
    variants = [place.variant for place in places] or [""] * len(names)
    own_names = [_shared(names, members) or _shared(variants, members) or objectives[members[0]] for members in groups]
    for number, (members, name) in enumerate(zip(groups, own_names)):
        namesakes = [settings[other[0]] for other, its in zip(groups, own_names) if its == name]
        name += _distinctions(settings[members[0]], namesakes)
        count = f", {len(members)} seeds" if len(members) > 1 else ""
        labels.append(Group(f"{chr(65 + number)} {name}{count}", members, tuple(seeds[member] for member in members)))
    return labels


def _shared(texts: Sequence[str], members: Sequence[int]) -> str:
    """Return the text that some runs share; "" if they have several."""
    own = {texts[member] for member in members}
    return own.pop() if len(own) == 1 else ""


def _distinctions(own: Mapping[str, str], namesakes: Sequence[Mapping[str, str]]) -> str:
    """Return the parameters and settings in which a group differs from others of its name: " learning_rate=0.0004"; else ""."""
    paths = [path for path in own if path not in IGNORED and " " not in path]
    differing = [path for path in paths if len({settings.get(path) for settings in namesakes}) > 1]
    some = [f"{path.removeprefix('objective.')}={own[path]}" for path in differing[:MOST_SETTINGS]]
    more = [f"{len(differing) - MOST_SETTINGS} more"] if len(differing) > MOST_SETTINGS else []
    return f" {' '.join([*some, *more])}" if some else ""


def without_common_pairs(group: Group, settings: Sequence[Mapping[str, str]]) -> str:
    """Return why no pair of a group has several seeds; "" if all its runs train on one set. settings: of each run compared.

    A pair of one set is no sample of another set's pair, even where both have the same id.
    """
    own = [settings[member] for member in group.members]
    if len({each["pairs.store"] for each in own}) == 1:
        return ""
    sets = ", ".join(dict.fromkeys(each["pairs"] for each in own))
    return (
        f"The seeds of {group.label} train on different pairs ({sets}), so no pair has several seeds. Choose single runs to "
        "compare them pair by pair."
    )
