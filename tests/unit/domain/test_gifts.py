"""How cells go from one owner to the next: each stage, and each word that may come in it."""

from __future__ import annotations

import pytest

from tenantry.domain.gifts import NEXT, UNASKED, WITHDRAWN, Stage, Word, after

ENDS = {Stage.GIVEN, Stage.DECLINED, Stage.REFUSED, Stage.DOUBTFUL}


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("word", Word)
def test_a_word_leads_on_or_changes_nothing_and_what_has_ended_stays_so(stage: Stage, word: Word) -> None:
    to = after(stage, word)
    assert to is NEXT[stage].get(word, stage)
    assert to >= stage
    assert to is stage or stage not in ENDS


def test_nothing_is_given_but_by_the_stores_word_after_the_next_owner_has_what_is_left() -> None:
    ways = {(stage, word) for stage in Stage for word in Word if after(stage, word) is Stage.GIVEN is not stage}
    assert ways == {(Stage.KEPT, Word.AGREED)}
    assert [stage for stage in Stage if after(stage, Word.KEPT) is not stage] == [Stage.ASKED]


def test_what_the_store_may_have_done_is_never_taken_for_withdrawn() -> None:
    assert after(Stage.KEPT, Word.LOST) is Stage.KEPT
    assert after(Stage.KEPT, Word.UNHEARD) is Stage.DOUBTFUL
    assert {*Stage} - {*WITHDRAWN} == {Stage.GIVEN, Stage.DOUBTFUL}


def test_cells_are_their_owners_as_before_only_where_the_store_was_asked_for_nothing() -> None:
    of_the_store = {after(Stage.KEPT, word) for word in (Word.AGREED, Word.REFUSED, Word.UNHEARD)}
    assert {*Stage} - {*UNASKED} == of_the_store
    assert after(Stage.ASKED, Word.LOST) in UNASKED
