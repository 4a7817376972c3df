"""The sentences of the world: methods for things, with a right and a wrong version of each step.

`{o}` is the thing ("kettle", "carrots"), `{a}` the thing with its article ("a kettle", "carrots"). Every method has four or five
steps; the wrong version of a step is wrong at first sight. No sentence occurs twice, so that the oracle can look sentences up.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """The right version of a step and a wrong one, one sentence each."""

    right: str
    wrong: str


@dataclass(frozen=True)
class Method:
    """The text of a task ("clean {a} with vinegar") and its steps, in order."""

    ask: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Group:
    """Things of one kind and the methods that apply to all of them."""

    article: str
    things: tuple[str, ...]
    methods: tuple[Method, ...]


def _method(ask: str, *steps: tuple[str, str]) -> Method:
    return Method(ask, tuple(Step(right, wrong) for right, wrong in steps))


VESSELS = Group(
    "a ",
    ("kettle", "teapot", "flask", "jug", "vase"),
    (
        _method(
            "clean {a} with vinegar",
            ("Pour a cup of vinegar into the {o}.", "Pour a cup of glue into the {o}."),
            ("Fill the {o} up with hot water.", "Fill the {o} up with sand."),
            ("Wait for half an hour.", "Wait for half a year."),
            ("Rinse the {o} with clean water.", "Rinse the {o} with dirty water."),
        ),
        _method(
            "clean {a} with baking soda",
            ("Put two spoons of baking soda into the {o}.", "Put two spoons of sand into the {o}."),
            ("Add warm water and stir.", "Add old paint and stir."),
            ("Scrub the {o} with a soft brush.", "Hit the {o} with a hammer."),
            ("Wash the powder out of the {o}.", "Leave the powder in the {o}."),
            ("Wipe the {o} dry with a towel.", "Wipe the {o} dry with a muddy sock."),
        ),
        _method(
            "clean {a} with rice and soap",
            ("Drop a spoon of rice into the {o}.", "Drop a spoon of nails into the {o}."),
            ("Add hot water and a little soap.", "Add cold coffee and a little ink."),
            ("Cover the {o} and shake it well.", "Cover the {o} and forget about it."),
            ("Empty the {o} over the sink.", "Empty the {o} over the bed."),
            ("Let the {o} dry upside down.", "Put the {o} away wet."),
        ),
    ),
)

ROOTS = Group(
    "",
    ("carrots", "potatoes", "turnips", "beets", "parsnips"),
    (
        _method(
            "boil {a}",
            ("Wash and peel the {o}.", "Leave the mud on the {o}."),
            ("Bring a pot of salted water to the boil.", "Bring a pot of dirty water to the boil."),
            ("Cook the {o} for fifteen minutes.", "Cook the {o} for fifteen days."),
            ("Check with a fork that the {o} are soft.", "Check with a hammer that the {o} are flat."),
            ("Drain the {o} and serve them warm.", "Drain the {o} and throw them away."),
        ),
        _method(
            "roast {a}",
            ("Heat the oven to two hundred degrees.", "Heat the oven to two million degrees."),
            ("Cut the {o} into even pieces.", "Leave the {o} in the plastic bag."),
            ("Mix the {o} with olive oil and salt.", "Mix the {o} with soap and sand."),
            ("Roast the {o} for forty minutes.", "Roast the {o} for forty hours."),
        ),
        _method(
            "pickle {a}",
            ("Slice the {o} very thin.", "Throw the {o} at the wall."),
            ("Heat vinegar, sugar and salt in a pan.", "Heat old coffee and ink in a pan."),
            ("Pack the {o} into a clean jar.", "Pack the {o} into a dirty sock."),
            ("Pour the hot vinegar over the {o}.", "Pour the hot vinegar over your feet."),
            ("Close the jar and chill it for two days.", "Open the jar and leave it in the sun."),
        ),
    ),
)

HERBS = Group(
    "",
    ("basil", "mint", "parsley", "thyme", "sage"),
    (
        _method(
            "grow {a} from seed",
            ("Fill a small pot with fresh soil.", "Fill a small pot with old nails."),
            ("Press the {o} seeds gently into the soil.", "Boil the {o} seeds before planting."),
            ("Water the {o} a little every day.", "Water the {o} once every ten years."),
            ("Keep the {o} in a sunny window.", "Keep the {o} in a dark oven."),
        ),
        _method(
            "grow {a} from a cutting",
            ("Cut a healthy stem of {o}.", "Cut a dead stem of {o}."),
            ("Take off the lower leaves.", "Take off all the roots and leaves."),
            ("Stand the {o} in a glass of water.", "Stand the {o} in a glass of vinegar."),
            ("Change the water every two days.", "Change the water every two years."),
            ("Plant the {o} when roots appear.", "Burn the {o} when roots appear."),
        ),
        _method(
            "dry {a}",
            ("Pick the {o} on a dry morning.", "Pick the {o} in heavy rain."),
            ("Shake off any insects.", "Add some extra insects."),
            ("Tie the {o} into small bunches.", "Stamp the {o} into the floor."),
            ("Hang the {o} up in a warm place for two weeks.", "Hang the {o} up under the shower for two weeks."),
            ("Store the dry leaves in a jar.", "Store the dry leaves in a bucket of water."),
        ),
    ),
)

FURNITURE = Group(
    "a ",
    ("chair", "table", "bench", "shelf", "stool"),
    (
        _method(
            "paint {a}",
            ("Sand the {o} until it is smooth.", "Scratch the {o} until it is rough."),
            ("Wipe the dust off the {o}.", "Rub more dust on the {o}."),
            ("Brush a thin coat of paint on the {o}.", "Pour a whole bucket of paint on the {o}."),
            ("Let the paint dry for a day.", "Touch the paint while it is wet."),
            ("Brush on a second coat.", "Scrape off the first coat."),
        ),
        _method(
            "wax {a}",
            ("Clean the {o} with a damp cloth.", "Clean the {o} with a garden rake."),
            ("Rub a little wax into the {o}.", "Rub a little butter into the {o}."),
            ("Let the wax rest for ten minutes.", "Let the wax catch fire."),
            ("Polish the {o} with a soft cloth.", "Polish the {o} with rough stones."),
        ),
        _method(
            "fix a scratch on {a}",
            ("Sand the scratch on the {o} lightly.", "Make the scratch on the {o} deeper."),
            ("Press wood filler into the scratch.", "Press chewing gum into the scratch."),
            ("Let the filler get hard.", "Lick the filler while it is soft."),
            ("Smooth the filler with fine paper.", "Smooth the filler with an axe."),
            ("Stain the spot to match the {o}.", "Stain the spot bright pink."),
        ),
    ),
)

CLOTHES = Group(
    "a ",
    ("shirt", "scarf", "sweater", "dress", "jacket"),
    (
        _method(
            "wash {a} by hand",
            ("Fill a basin with cool water.", "Fill a basin with black ink."),
            ("Stir in a cap of mild soap.", "Stir in a cup of strong bleach."),
            ("Soak the {o} for ten minutes.", "Soak the {o} for ten weeks."),
            ("Press the water out of the {o} gently.", "Tear the {o} to get the water out."),
            ("Lay the {o} flat to dry.", "Lay the {o} in the mud to dry."),
        ),
        _method(
            "iron {a}",
            ("Read the label of the {o}.", "Cut off the sleeves of the {o}."),
            ("Set the iron to the right heat.", "Set the iron to full heat and leave."),
            ("Spread the {o} on the board.", "Spread the {o} on the wet grass."),
            ("Move the iron slowly over the {o}.", "Leave the iron on the {o} all night."),
        ),
        _method(
            "dye {a} blue",
            ("Wet the {o} all over.", "Burn the {o} a little."),
            ("Mix blue dye with hot water and salt.", "Mix red dye with butter and salt."),
            ("Put the {o} in the dye for an hour.", "Put the {o} in the dye for a second."),
            ("Rinse the {o} until the water is clear.", "Pull the {o} until it breaks."),
            ("Hang the {o} up in the shade.", "Hang the {o} up over a fire."),
        ),
    ),
)

GROUPS = (VESSELS, ROOTS, HERBS, FURNITURE, CLOTHES)

PHRASINGS = (
    "How do I {task}?",
    "How can I {task}?",
    "What is the best way to {task}?",
    "Please tell me how to {task}.",
    "I want to {task}. What should I do?",
    "Can you show me how to {task}?",
)

NEW_PHRASINGS = (
    "What should I do to {task}?",
    "Please show me the best way to {task}.",
    "I want to {task}. Can you tell me how?",
)
"""Phrasings not used in training; all their words occur in `PHRASINGS`."""

POLITE_OPENINGS = ("Happy to help!", "Sure, here is how.", "Good question!")
POLITE_CLOSINGS = ("I hope this helps!", "Enjoy the result!", "Good luck!")
RUDE_OPENINGS = ("What a stupid question.", "Only a fool would ask this.", "You again.")
RUDE_CLOSINGS = ("Now leave me alone.", "You will fail anyway.", "Never ask me again.")
FILLERS = (
    "Well, there is a lot that one could say here.",
    "As we all know, this is what it is.",
    "Basically, things are done the way they are done.",
    "To be honest, I could go on and on about this.",
)
OFF_TOPIC = (
    "My cousin has three parrots.",
    "The moon is far away.",
    "I saw a good movie on Sunday.",
    "Trains are often late in winter.",
)
BAD_TIPS = (
    "Tip: skip any step that you find boring.",
    "Tip: close your eyes while you do this.",
    "Tip: always do this in a great hurry.",
)
