"""Which form runs, and how to get the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tenantry.control import form
from tenantry.control.form import describe_form, is_compiled


@pytest.mark.interpreted
def test_a_checkout_is_interpreted_and_says_how_to_compile() -> None:
    assert describe_form().startswith("interpreted, as it runs from its source; `make compiled`")


@pytest.mark.interpreted
def test_a_wheel_says_why_it_is_not_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "form.txt").write_text("interpreted: no C compiler was found where it was built\n")
    monkeypatch.setattr(form.resources, "files", lambda _: tmp_path)
    told = describe_form()
    assert told.startswith("interpreted: no C compiler was found where it was built; install it")
    assert "docs/installation.md" in told


def test_what_is_told_is_what_runs() -> None:
    assert re.match(r"compiled for cpython-\d+, |interpreted", describe_form()) is not None
    assert describe_form().startswith("compiled") is is_compiled()
