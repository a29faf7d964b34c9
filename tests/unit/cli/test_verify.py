"""verify isolation on a terminal and in a pipe, and when it is interrupted."""

import io
import signal
from types import SimpleNamespace

import pytest

from tenantry.cli.proof_progress import told_progress
from tenantry.cli.verify import Interrupts
from tenantry.control.isolation.findings import SHOWN_MAX, Group, lines_of
from tenantry.control.isolation.stage import PROVES
from tests.stack import wait_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def group(name: str, ok: bool = True, done: bool = True) -> Group:
    one = Group(name, PROVES[name], is_done=done)
    one.add("a key", "401", "401" if ok else "200", ok)
    return one


def test_in_a_pipe_each_group_is_a_line() -> None:
    out = io.StringIO()
    with told_progress(out) as listener:
        listener.came(0.5)
        listener.ended(group("identity"))
    assert out.getvalue() == f"PASS    {PROVES['identity']} (1 checks)\n"


def test_on_a_terminal_there_is_a_bar_with_the_time_left() -> None:
    out = Terminal()
    with told_progress(out) as listener:
        listener.came(0.5)
        listener.ended(group("identity"))
        listener.came(0.75)
    text = out.getvalue()
    assert PROVES["identity"] in text
    assert "75%" in text
    assert "left" in text


def test_what_failed_is_told_and_the_rest_is_counted() -> None:
    one = Group("identity", PROVES["identity"])
    for number in range(SHOWN_MAX + 2):
        one.add(f"key {number}", "401", "200", False)
    lines = lines_of(one)
    assert lines[0].startswith("FAIL    ")
    assert lines[-1].strip().startswith("and 2 more")


def test_an_interrupt_says_what_is_done_and_what_not() -> None:
    interrupts = Interrupts()
    assert interrupts.words == "interrupted before anything was tried"
    groups = [group("undisturbed"), group("identity", ok=False), group("headers", done=False)]
    interrupts.stage = SimpleNamespace(report=SimpleNamespace(groups=groups))  # type: ignore[assignment]
    assert interrupts.words.startswith(
        "interrupted, and what it had made is removed; held: undisturbed; FAILED: identity; not shown: headers, tricks"
    )
    assert "search" in interrupts.words


def test_only_the_first_interrupt_interrupts() -> None:
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        interrupts.came(signal.SIGINT, None)
    interrupts.came(signal.SIGINT, None)


def test_what_has_begun_to_be_tidied_up_is_not_interrupted() -> None:
    interrupts = Interrupts()
    interrupts.hold()
    interrupts.came(signal.SIGINT, None)


def test_a_transaction_is_not_interrupted_in_its_midst() -> None:
    came: list[str] = []
    interrupts = Interrupts()
    before = signal.signal(signal.SIGALRM, lambda *_: came.append("again"))
    storing = SimpleNamespace(f_globals={"__name__": "sqlalchemy.engine.base"}, f_back=None)
    within = SimpleNamespace(f_globals={"__name__": "anything"}, f_back=storing)
    try:
        interrupts.came(signal.SIGINT, within)  # type: ignore[arg-type]
        wait_for(lambda: came, what="the signal, once more")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert came == ["again"]
    with pytest.raises(KeyboardInterrupt):
        interrupts.came(signal.SIGALRM, None)
