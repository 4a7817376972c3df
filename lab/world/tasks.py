"""The sentences of the worlds: methods for things, with a right and a wrong version of each step and an explanation.

`{o}` is the thing ("kettle", "carrots"), `{a}` the thing with its article ("a kettle", "carrots"). Every method has four or five
steps; the wrong version of a step is wrong at first sight. Explanations belong to the hard world alone (see `kinds`). No
sentence occurs twice, so that the oracle can look sentences up.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """The right version of a step, a wrong one, and the explanation of the right one, a sentence each."""

    right: str
    wrong: str
    why: str


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


def _method(ask: str, *steps: tuple[str, str, str]) -> Method:
    return Method(ask, tuple(Step(*sentences) for sentences in steps))


VESSELS = Group(
    "a ",
    ("kettle", "teapot", "flask", "jug", "vase"),
    (
        _method(
            "clean {a} with vinegar",
            ("Pour a cup of vinegar into the {o}.", "Pour a cup of glue into the {o}.", "Vinegar loosens the lime."),
            ("Fill the {o} up with hot water.", "Fill the {o} up with sand.", "Heat helps the vinegar reach every corner."),
            ("Wait for half an hour.", "Wait for half a year.", "The lime needs that long to dissolve."),
            ("Rinse the {o} with clean water.", "Rinse the {o} with dirty water.", "No sour taste stays in the {o}."),
        ),
        _method(
            "clean {a} with baking soda",
            (
                "Put two spoons of baking soda into the {o}.",
                "Put two spoons of sand into the {o}.",
                "Baking soda lifts stains without harm.",
            ),
            ("Add warm water and stir.", "Add old paint and stir.", "The powder works only when it is wet."),
            ("Scrub the {o} with a soft brush.", "Hit the {o} with a hammer.", "A hard brush would scratch the {o}."),
            ("Wash the powder out of the {o}.", "Leave the powder in the {o}.", "Powder left inside tastes salty."),
            ("Wipe the {o} dry with a towel.", "Wipe the {o} dry with a muddy sock.", "Drops of water would leave spots."),
        ),
        _method(
            "clean {a} with rice and soap",
            ("Drop a spoon of rice into the {o}.", "Drop a spoon of nails into the {o}.", "Rice reaches where no brush can go."),
            ("Add hot water and a little soap.", "Add cold coffee and a little ink.", "Soap carries the old grease away."),
            ("Cover the {o} and shake it well.", "Cover the {o} and forget about it.", "The grains rub the dirt off the {o}."),
            ("Empty the {o} over the sink.", "Empty the {o} over the bed.", "The dirt leaves the {o} with the rice."),
            ("Let the {o} dry upside down.", "Put the {o} away wet.", "The last water runs out by itself."),
        ),
    ),
)

ROOTS = Group(
    "",
    ("carrots", "potatoes", "turnips", "beets", "parsnips"),
    (
        _method(
            "boil {a}",
            ("Wash and peel the {o}.", "Leave the mud on the {o}.", "Soil and skin would make the {o} bitter."),
            ("Bring a pot of salted water to the boil.", "Bring a pot of dirty water to the boil.", "Salt brings out the taste."),
            ("Cook the {o} for fifteen minutes.", "Cook the {o} for fifteen days.", "A shorter time leaves the {o} hard."),
            (
                "Check with a fork that the {o} are soft.",
                "Check with a hammer that the {o} are flat.",
                "Every kitchen has a different heat.",
            ),
            ("Drain the {o} and serve them warm.", "Drain the {o} and throw them away.", "Water would make the {o} soggy."),
        ),
        _method(
            "roast {a}",
            ("Heat the oven to two hundred degrees.", "Heat the oven to two million degrees.", "A hot start gives a crisp skin."),
            ("Cut the {o} into even pieces.", "Leave the {o} in the plastic bag.", "Even pieces are done at the same time."),
            ("Mix the {o} with olive oil and salt.", "Mix the {o} with soap and sand.", "Oil keeps the {o} from drying out."),
            ("Roast the {o} for forty minutes.", "Roast the {o} for forty hours.", "Slow heat makes the {o} sweet."),
        ),
        _method(
            "pickle {a}",
            ("Slice the {o} very thin.", "Throw the {o} at the wall.", "Thin slices soak up more taste."),
            ("Heat vinegar, sugar and salt in a pan.", "Heat old coffee and ink in a pan.", "Warm vinegar melts the sugar."),
            ("Pack the {o} into a clean jar.", "Pack the {o} into a dirty sock.", "A dirty jar would spoil the {o}."),
            ("Pour the hot vinegar over the {o}.", "Pour the hot vinegar over your feet.", "Vinegar keeps the {o} for months."),
            (
                "Close the jar and chill it for two days.",
                "Open the jar and leave it in the sun.",
                "The taste needs two days to settle.",
            ),
        ),
    ),
)

HERBS = Group(
    "",
    ("basil", "mint", "parsley", "thyme", "sage"),
    (
        _method(
            "grow {a} from seed",
            ("Fill a small pot with fresh soil.", "Fill a small pot with old nails.", "Fresh soil is free of weeds."),
            (
                "Press the {o} seeds gently into the soil.",
                "Boil the {o} seeds before planting.",
                "Seeds that lie too deep never come up.",
            ),
            ("Water the {o} a little every day.", "Water the {o} once every ten years.", "Too much water drowns young {o}."),
            ("Keep the {o} in a sunny window.", "Keep the {o} in a dark oven.", "Light makes the {o} strong."),
        ),
        _method(
            "grow {a} from a cutting",
            ("Cut a healthy stem of {o}.", "Cut a dead stem of {o}.", "A weak stem grows no roots."),
            ("Take off the lower leaves.", "Take off all the roots and leaves.", "Leaves under water would rot."),
            ("Stand the {o} in a glass of water.", "Stand the {o} in a glass of vinegar.", "Roots grow quickly in water."),
            ("Change the water every two days.", "Change the water every two years.", "Old water has no air left."),
            ("Plant the {o} when roots appear.", "Burn the {o} when roots appear.", "From then on the {o} needs soil."),
        ),
        _method(
            "dry {a}",
            ("Pick the {o} on a dry morning.", "Pick the {o} in heavy rain.", "Wet leaves turn black."),
            ("Shake off any insects.", "Add some extra insects.", "Insects would eat the dry leaves."),
            ("Tie the {o} into small bunches.", "Stamp the {o} into the floor.", "Air must pass between the stems of {o}."),
            (
                "Hang the {o} up in a warm place for two weeks.",
                "Hang the {o} up under the shower for two weeks.",
                "Warm air takes the water out slowly.",
            ),
            ("Store the dry leaves in a jar.", "Store the dry leaves in a bucket of water.", "A jar keeps the smell in."),
        ),
    ),
)

FURNITURE = Group(
    "a ",
    ("chair", "table", "bench", "shelf", "stool"),
    (
        _method(
            "paint {a}",
            ("Sand the {o} until it is smooth.", "Scratch the {o} until it is rough.", "Paint does not hold on a rough {o}."),
            ("Wipe the dust off the {o}.", "Rub more dust on the {o}.", "Dust would show under the paint."),
            (
                "Brush a thin coat of paint on the {o}.",
                "Pour a whole bucket of paint on the {o}.",
                "A thick coat would run down the {o}.",
            ),
            ("Let the paint dry for a day.", "Touch the paint while it is wet.", "Wet paint tears under the brush."),
            ("Brush on a second coat.", "Scrape off the first coat.", "One coat lets the wood show through."),
        ),
        _method(
            "wax {a}",
            ("Clean the {o} with a damp cloth.", "Clean the {o} with a garden rake.", "Dirt under the wax stays for ever."),
            ("Rub a little wax into the {o}.", "Rub a little butter into the {o}.", "Too much wax makes the {o} sticky."),
            ("Let the wax rest for ten minutes.", "Let the wax catch fire.", "The wood drinks the wax slowly."),
            ("Polish the {o} with a soft cloth.", "Polish the {o} with rough stones.", "Rubbing gives the {o} its shine."),
        ),
        _method(
            "fix a scratch on {a}",
            (
                "Sand the scratch on the {o} lightly.",
                "Make the scratch on the {o} deeper.",
                "Hard sanding would make a hole in the {o}.",
            ),
            ("Press wood filler into the scratch.", "Press chewing gum into the scratch.", "Filler makes the surface even again."),
            ("Let the filler get hard.", "Lick the filler while it is soft.", "Soft filler would come out again."),
            ("Smooth the filler with fine paper.", "Smooth the filler with an axe.", "Coarse paper would leave new marks."),
            ("Stain the spot to match the {o}.", "Stain the spot bright pink.", "Bare filler stays pale on the {o}."),
        ),
    ),
)

CLOTHES = Group(
    "a ",
    ("shirt", "scarf", "sweater", "dress", "jacket"),
    (
        _method(
            "wash {a} by hand",
            ("Fill a basin with cool water.", "Fill a basin with black ink.", "Hot water would shrink the cloth."),
            ("Stir in a cap of mild soap.", "Stir in a cup of strong bleach.", "Strong soap would eat the colors."),
            ("Soak the {o} for ten minutes.", "Soak the {o} for ten weeks.", "Soaking saves a lot of rubbing."),
            ("Press the water out of the {o} gently.", "Tear the {o} to get the water out.", "Twisting would stretch the {o}."),
            ("Lay the {o} flat to dry.", "Lay the {o} in the mud to dry.", "A hanging {o} grows long."),
        ),
        _method(
            "iron {a}",
            ("Read the label of the {o}.", "Cut off the sleeves of the {o}.", "The label says how much heat is safe."),
            ("Set the iron to the right heat.", "Set the iron to full heat and leave.", "Too much heat burns the threads."),
            ("Spread the {o} on the board.", "Spread the {o} on the wet grass.", "Folds would be pressed into the {o}."),
            (
                "Move the iron slowly over the {o}.",
                "Leave the iron on the {o} all night.",
                "Quick strokes leave creases in the {o}.",
            ),
        ),
        _method(
            "dye {a} blue",
            ("Wet the {o} all over.", "Burn the {o} a little.", "Dry spots would stay without color."),
            ("Mix blue dye with hot water and salt.", "Mix red dye with butter and salt.", "Salt binds the dye to the threads."),
            ("Put the {o} in the dye for an hour.", "Put the {o} in the dye for a second.", "A deep blue takes a full hour."),
            ("Rinse the {o} until the water is clear.", "Pull the {o} until it breaks.", "Loose dye would stain other clothes."),
            ("Hang the {o} up in the shade.", "Hang the {o} up over a fire.", "Sun would fade the new blue."),
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
