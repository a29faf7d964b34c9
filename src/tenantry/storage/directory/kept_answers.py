"""Answers of the admin API that are kept for who asks again under the same Idempotency-Key: for a day, sealed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tenantry.storage.columns import aware, new_id, now_utc
from tenantry.storage.directory.changes import Changes
from tenantry.storage.sealed_rows import columns_of
from tenantry.storage.tables import kept_answers
from tenantry.storage.vault import Sealed

# As long as others keep theirs (Stripe: at least 24 hours).
KEPT_HOURS: Final = 24


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """`age`: since the write began. `text` None: it has not ended, as far as this database knows."""

    asked: bytes
    age: timedelta
    text: str | None


class KeptAnswerChanges(Changes):
    """What was answered to whom. It changes nothing that a gateway has to hear of, and is no line of the audit log."""

    def find_answer(self, holder: str, key: str) -> KeptAnswer | None:
        """What is kept for `key` of `holder`.

        Raises:
            SecretUnreadable: the master key was rotated since, or the row was changed.
        """
        here = (kept_answers.c.holder == holder) & (kept_answers.c.idempotency_key == key)
        with self._engine.connect() as connection:
            row = connection.execute(select(kept_answers).where(here)).first()
        if row is None or now_utc() - aware(row.begun_at) >= timedelta(hours=KEPT_HOURS):
            return None
        text = None
        if row.ciphertext is not None:
            text = self._vault.open(Sealed(row.master_key_id, row.wrapped_key, row.ciphertext), row.answer_id)
        return KeptAnswer(row.asked, now_utc() - aware(row.begun_at), text)

    def claim_answer(self, holder: str, key: str, asked: bytes) -> bool:
        """That a write under this key begins; False where one has begun. What is older than a day goes."""
        now = now_utc()
        values = {"answer_id": new_id("ans"), "holder": holder, "idempotency_key": key}
        try:
            with self._engine.begin() as connection:
                old = kept_answers.c.begun_at < now - timedelta(hours=KEPT_HOURS)
                connection.execute(delete(kept_answers).where(old))
                connection.execute(insert(kept_answers).values(values | {"asked": asked, "begun_at": now}))
        except IntegrityError:
            return False
        return True

    def keep_answer(self, holder: str, key: str, text: str) -> None:
        """What was answered to the write that was claimed."""
        here = (kept_answers.c.holder == holder) & (kept_answers.c.idempotency_key == key)
        with self._engine.begin() as connection:
            answer_id = connection.execute(select(kept_answers.c.answer_id).where(here)).scalar_one()
            sealed = self._vault.seal(text, answer_id, key=self._sealing_key(connection))
            values: dict[str, Any] = columns_of(sealed)
            connection.execute(update(kept_answers).where(here).values(values))

    def drop_answer(self, holder: str, key: str) -> None:
        """The write was refused: the key may be used again."""
        here = (kept_answers.c.holder == holder) & (kept_answers.c.idempotency_key == key)
        with self._engine.begin() as connection:
            connection.execute(delete(kept_answers).where(here))
