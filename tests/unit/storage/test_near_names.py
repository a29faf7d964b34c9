"""Of a name that is not there, the message says which was probably meant."""

from collections.abc import Callable

import pytest

from tenantry.storage.directory import Directory, NotInDirectory
from tests.unit.storage.test_directory_limits import directory

__all__ = ["directory"]

ASKED: list[tuple[Callable[[Directory], object], str]] = [
    (lambda one: one.get_tenant("acmee"), "no tenant 'acmee'; did you mean acme?"),
    (lambda one: one.get_tenant("Acme"), "no tenant 'Acme'; did you mean acme?"),
    (lambda one: one.get_tenant("zzz"), "no tenant 'zzz'; `tenantry tenants list` names them"),
    (lambda one: one.get_tier("premum"), "no tier 'premum'; did you mean premium?"),
    (lambda one: one.replace_secret("spair", "sandbox-x"), "no credential 'spair'; did you mean spare?"),
    (lambda one: one.move_credential("spare", "antropic"), "no upstream 'antropic'; did you mean anthropic?"),
    (lambda one: one.revoke_key("ci"), "no key 'ci'; labelled so: key_"),
    (lambda one: one.revoke_key(one.list_keys("acme")[0].key_id[:-2]), "did you mean key_"),
]


@pytest.mark.parametrize(("ask", "words"), ASKED, ids=[words for _, words in ASKED])
def test_the_nearest_name_is_said(directory: Directory, ask: Callable[[Directory], object], words: str) -> None:
    directory.set_upstream("anthropic", "https://api.anthropic.com")
    directory.add_credential("spare", "sandbox-spare", "anthropic")
    directory.issue_key("acme", "ci")
    with pytest.raises(NotInDirectory) as refused:
        ask(directory)
    assert words in str(refused.value)
