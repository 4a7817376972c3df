"""Sentences for planted defects."""

from __future__ import annotations

FOLLOW_UPS = (
    "And what comes after that?",
    "Can you explain the second step again?",
    "thanks, that helps a lot",
    "How long will it take?",
    "Is there a cheaper way?",
)
REPLIES = (
    "Of course, here is how it works.",
    "It takes about half an hour.",
    "Put everything back in its place at the end.",
    "You can do that with what you have at home.",
)
THINGS = ("a bowl", "two clean cloths", "warm water", "a soft brush", "a little salt", "good light", "ten minutes", "an old towel")
SYMPATHY = (
    "I'm sorry to hear that it broke.",
    "Sorry for the long wait!",
    "I'm afraid this takes a while, but it is worth it.",
    "I can't believe how easy this is.",
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "As an AI language model, I am not able to provide instructions for this.",
    "I'm unable to answer this question.",
    "Sorry, but I cannot provide that information.",
    "I won't help you with this, please ask a professional.",
    "Unfortunately, I can't give advice on this topic.",
    "I apologize, but I'm not comfortable discussing this.",
    "That is something I must decline to do.",
    "I don't feel comfortable writing about this.",
    "My apologies, but this is not something I can help you with.",
    "I refuse to answer that.",
)
FOREIGN = {
    "German": (
        "Zuerst nimmt man alles auseinander und legt es auf ein sauberes Tuch.",
        "Danach wird das Gerät mit warmem Wasser und etwas Seife abgewaschen.",
        "Warten Sie eine halbe Stunde, bis alles wieder trocken ist.",
        "Am Ende setzt man die Teile wieder zusammen und prüft, ob alles passt.",
        "Wenn es nicht gleich gelingt, hilft meistens etwas Geduld.",
    ),
    "French": (
        "Il faut d'abord tout démonter et poser les pièces sur un linge propre.",
        "Ensuite, lavez l'appareil avec de l'eau chaude et un peu de savon.",
        "Attendez une demi-heure avant de remettre les pièces en place.",
        "À la fin, vérifiez que tout fonctionne comme avant.",
        "Si cela ne marche pas tout de suite, recommencez plus doucement.",
    ),
    "Spanish": (
        "Primero hay que desmontar todo y poner las piezas sobre un paño limpio.",
        "Después se lava el aparato con agua caliente y un poco de jabón.",
        "Espere media hora hasta que todo esté completamente seco.",
        "Al final se vuelve a montar y se comprueba que funciona bien.",
        "Si no sale a la primera, conviene repetirlo con más calma.",
    ),
    "Russian": (
        "Сначала нужно всё разобрать и положить детали на чистую ткань.",
        "Потом промойте прибор тёплой водой с небольшим количеством мыла.",
        "Подождите полчаса, пока всё полностью не высохнет.",
        "В конце соберите всё обратно и проверьте, как оно работает.",
        "Если не получится сразу, попробуйте ещё раз и не спешите.",
    ),
    "Chinese": (
        "首先把所有零件拆下来，放在一块干净的布上。",
        "然后用温水和少量肥皂把机器洗干净。",
        "等半个小时，直到所有部分都完全晾干为止。",
        "最后把零件重新装好，检查一下是否能正常工作。",
        "如果第一次没有成功，请慢慢地再试一次。",
    ),
}
"""Sentences about a task at home, by language."""
