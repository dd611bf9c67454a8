"""Questions of the project's own shape about something else: what is asked decides, not how.

A phrasing of a fact is borrowed, and each word in it that tells what it is about gives way to one of the world's: `How
do I add a model` becomes `How do I add a cello`. Words that any question may have stay; verbs that many have, often.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

_STAYS: Final = 0.6
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_ARTICLE: Final = re.compile(r"^(?:a|an|the|my) ")
_ANY_QUESTION: Final = frozenset(
    re.findall(
        r"\S+",
        """a about again all am an and any anything are as at be because but by can can't cannot could did do does
        doesn't don't down each else else's even ever every everything exactly find first for from get give had
        has have here how i if in instead into is isn't it its just know let like list long many may me mean might
        more most much must my need next no not now of off ok on once one only or other our out over own per
        please same see should show so some something still take tell than that the their them then there these
        they thing things this those to too up us use used very want was way we well were what what's when where
        where's whether which while who who's whom whose why will with without would you your yours explain
        describe define possible""",
    )
)
_VERBS: Final = frozenset(
    re.findall(
        r"\S+",
        """add ask begin build call change check choose clean clear close come configure connect copy create cut
        delete download edit end fail fix go happen happens help hold install keep last leave limit load look lose
        make makes measure move open pay prevent put reach read remove rename replace reset run save send set
        share start stay stop store switch talk test train try turn update upgrade upload wait work works write""",
    )
)


def borrowed(phrasing: str, foreign: Sequence[str], rng: Random) -> str | None:
    """`phrasing` with foreign words for its own. None where it has no word that tells what it is about."""
    words = phrasing.split()
    own = [place for place, word in enumerate(words) if _plain(word) not in _ANY_QUESTION | _VERBS]
    if not own:
        return None
    for place, word in enumerate(words):
        if place in own or (_plain(word) in _VERBS and rng.random() > _STAYS):
            words[place] = _ARTICLE.sub("", rng.choice(foreign))
    return " ".join(words)


def foreign(world: Sequence[str], project: Sequence[str]) -> tuple[str, ...]:
    """The expressions of the world that have a word which no phrasing of the project has."""
    known = {word for phrasing in project for word in _LETTERS.findall(phrasing.lower())}
    return tuple(text for text in dict.fromkeys(world) if not known.issuperset(_LETTERS.findall(text.lower())))


def _plain(word: str) -> str:
    return word.lower().strip(".,:;?!")
