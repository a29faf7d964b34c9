"""References to secrets: where a file of tenants says a secret is, and the secret itself while it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tenantry.regular_files import read_regular

SECRET_BYTES_MAX = 64 * 1024


class SecretUnavailable(Exception):
    """The secret is not where the file of tenants says; the message names the reference, never a value."""


class References:
    """Reads `env:NAME` and `file:PATH`. `given` holds secrets that were handed in under a reference of their own."""

    def __init__(self, environ: Mapping[str, str], given: Mapping[str, str] | None = None) -> None:
        self._environ = environ
        self._given = given or {}

    def get(self, reference: str) -> str:
        """Raises: SecretUnavailable."""
        kind, _, name = reference.partition(":")
        if reference in self._given:
            return self._given[reference]
        if kind == "env":
            secret = self._environ.get(name, "").strip()
        elif kind == "file":
            secret = _read(reference, Path(name).expanduser())
        else:
            raise SecretUnavailable(f"{reference} is a stored credential; there is no secret to read")
        if not secret:
            raise SecretUnavailable(f"{reference} is empty or not set here")
        return secret

    def find(self, reference: str) -> str | None:
        """The secret, or None where it is not at hand: a plan can be made without it."""
        try:
            return self.get(reference)
        except SecretUnavailable:
            return None


class NoReferences(References):
    """Reads none: for who is not on the machine whose secrets they are."""

    def __init__(self) -> None:
        super().__init__({})

    def get(self, reference: str) -> str:
        """Raises: SecretUnavailable."""
        raise SecretUnavailable(f"{reference} is not read here: store the secret first, and say vault:NAME")


def _read(reference: str, path: Path) -> str:
    try:
        data = read_regular(path, SECRET_BYTES_MAX)
        if len(data) > SECRET_BYTES_MAX:
            raise SecretUnavailable(f"{reference} is too large for a secret")
        return data.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise SecretUnavailable(f"{reference} cannot be read: {why}") from None
