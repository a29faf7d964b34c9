"""What a client or an upstream made up does nothing to the terminal that shows it."""

import json

import pytest

from tenantry.domain.printable import escaped, printable

CLEAR = "\x1b[2J\x1b[1;1Hall is well"
EVIL = [CLEAR, "\x9b2Jx", "a\rb", "a\x08b", "a\x7fb", "\u202egnp.exe", "\ud83d", "\0", "\u2028", "\U000e0041"]


@pytest.mark.parametrize("text", EVIL)
def test_what_would_act_on_a_terminal_is_replaced(text: str) -> None:
    assert printable(text).isprintable()
    assert "\ufffd" in printable(text)


@pytest.mark.parametrize(
    "text", ["", "claude-code/2.1 (linux)", "Zoë's Café", "日本", "\U0001f469\u200d\U0001f52c", "\u06cc\u200c\u062e"]
)
def test_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("space", ["\u00a0", "\u2009", "\u202f", "\u3000"])
def test_a_space_of_another_kind_is_a_space(space: str) -> None:
    """Sums and dates have them in most languages: `0,92 €`, `15. – 31. Okt.`."""
    assert printable(f"5,00{space}$") == "5,00 $"


def test_lines_stay_where_they_are_kept() -> None:
    assert printable("a\n\tb\r", "\n\t") == "a\n\tb\ufffd"


@pytest.mark.parametrize("text", EVIL)
def test_an_escaped_document_says_the_same(text: str) -> None:
    document = escaped(json.dumps({"agent": text}, indent=2, ensure_ascii=False))
    assert json.loads(document) == {"agent": text}
    assert all(line.isprintable() for line in document.split("\n"))
