"""How cells go from their owner to the next one, as one table (docs/decisions/0021-cells.md).

`NEXT[stage][word]` is the stage that follows; a word that has no place there changes nothing: what comes late is late.
From ASKED until the end nobody grants anything of the cells, and their old owner claims nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class Stage(IntEnum):
    """What is waited for."""

    ASKED = 0  # for the next owner to say that it has what is left with the cells
    KEPT = 1  # for the store to make them its own
    GIVEN = 2  # for nothing: they are another's
    DECLINED = 3  # for nothing: the next owner does not take them, and the store was asked for nothing
    REFUSED = 4  # for nothing: the store has not made them another's
    DOUBTFUL = 5  # for nothing: the store has not said what came of it, and does to who claims them


class Word(IntEnum):
    """What is heard."""

    KEPT = 0  # the next owner has what is left
    LOST = 1  # it does not take it, has gone, or says nothing in time
    AGREED = 2  # the store: they are the next owner's
    REFUSED = 3  # the store: it does not live, or they are not this gateway's any more
    UNHEARD = 4  # the store has not answered


NEXT: Final[Mapping[Stage, Mapping[Word, Stage]]] = {
    Stage.ASKED: {Word.KEPT: Stage.KEPT, Word.LOST: Stage.DECLINED},
    Stage.KEPT: {Word.AGREED: Stage.GIVEN, Word.REFUSED: Stage.REFUSED, Word.UNHEARD: Stage.DOUBTFUL},
    Stage.GIVEN: {},
    Stage.DECLINED: {},
    Stage.REFUSED: {},
    Stage.DOUBTFUL: {},
}

# The store was asked for nothing: the cells are their old owner's as before, if it has its lease yet.
UNASKED: Final = (Stage.ASKED, Stage.KEPT, Stage.DECLINED)
# What the next owner was left with is of no use any more.
WITHDRAWN: Final = (*UNASKED, Stage.REFUSED)


def after(stage: Stage, word: Word) -> Stage:
    """The stage that follows."""
    return NEXT[stage].get(word, stage)
