"""Reports can be read by anyone and repeated by anyone, and hold no secret."""

import subprocess

import pytest

from tenantry.control.isolation.cases import Hand, Holder, generate_cases
from tenantry.control.isolation.client import Address, Answer, NoAnswer, request, take_answer
from tenantry.control.isolation.findings import Group, Report
from tenantry.control.isolation.repeat import repeat_line
from tenantry.control.isolation.report import as_html, write_report
from tests.unit.control.test_isolation_cases import HAND, KEY

GATEWAY = Address("127.0.0.1", 3000, None)


def report(*groups: Group) -> Report:
    return Report("run1", "2026-11-24T00:00:00Z", "0.1.0", GATEWAY.url, ["a", "b"], "probes", list(groups))


def group(ok: bool) -> Group:
    made = Group("identity", "Every route answers as it should.")
    made.add("POST /v1/messages: no key", "401", "401" if ok else "<script>alert(1)</script>", ok, 1.2, "curl x")
    return made


def test_a_group_without_checks_has_shown_nothing() -> None:
    assert Group("x", "y").verdict == "FAIL"
    assert Group("x", "y", not_run="why").verdict == "NOT RUN"
    assert not report(Group("x", "y", not_run="why")).ok
    assert report(Group("x", "y", not_run="why"), group(True)).ok
    assert not report(group(True), group(False)).ok


def test_the_page_says_its_verdict_in_words_and_escapes_what_was_seen() -> None:
    page = as_html(report(group(False)))
    assert "✗ FAIL" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "curl x" in page
    assert "✓ PASS" in as_html(report(group(True)))


def test_the_page_loads_nothing() -> None:
    page = as_html(report(group(False)))
    assert not any(word in page for word in ("<script", "<link", "<img", "@import", "url("))


def test_a_report_is_written_whole_or_not_at_all(tmp_path) -> None:
    write_report(report(group(True)), tmp_path / "isolation.html")
    assert [path.name for path in tmp_path.iterdir()] == ["isolation.html"]
    with pytest.raises(OSError, match="directory"):
        write_report(report(group(True)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["isolation.html"]


def secrets_of(hand: Hand) -> dict[str, str]:
    return {"OWN_KEY": hand.own.key, "OTHER_KEY": hand.other.key, "OAT": hand.oat, "RAW": hand.raw}


def test_no_line_that_repeats_a_case_holds_a_key() -> None:
    tails = [key[-16:] for key in (HAND.own.key, HAND.other.key)]
    lines = [repeat_line(GATEWAY, case.data, secrets_of(HAND)) for case in generate_cases(HAND)]
    assert len(lines) > 1000
    for line in lines:
        assert not any(tail in line or tail.upper() in line for tail in tails)


def test_a_plain_request_is_repeated_by_curl() -> None:
    data = request(b"POST", b"/t/a/v1/messages", [b"x-api-key: " + KEY.encode(), b"x-tenant-id: b'c"], b'{"a":"it\'s"}')
    line = repeat_line(GATEWAY, data, {"OWN_KEY": KEY})
    assert line.startswith("curl -sS -i --path-as-is -X POST http://127.0.0.1:3000/t/a/v1/messages ")
    shown = subprocess.run(
        ["bash", "-c", line.replace("curl", "printf '%s\\n'", 1)],
        env={"OWN_KEY": KEY},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"x-api-key: {KEY}\n" in shown
    assert "x-tenant-id: b'c\n" in shown
    assert shown.endswith('{"a":"it\'s"}\n')


def test_what_curl_cannot_send_is_repeated_to_the_byte() -> None:
    odd = b"GET /t/a\x00'%\\b HTTP/1.1\r\nx-api-key: " + KEY.encode() + b"\n \t\xff\r\n\r\ntail"
    line = repeat_line(GATEWAY, odd, {"OWN_KEY": KEY})
    command, _, sink = line.rpartition(" | ")
    assert sink == "nc 127.0.0.1 3000"
    shown = subprocess.run(["bash", "-c", command], env={"OWN_KEY": KEY}, capture_output=True, check=True).stdout
    assert shown == odd


def test_two_answers_to_one_request_are_told_apart() -> None:
    first = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}"
    second = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    both = first + second
    found = take_answer(both, False, closed=True)
    assert found is not None
    answer, rest = found
    assert (answer.status, answer.body) == (400, b"{}")
    assert take_answer(rest, False, closed=True) == (Answer(200, [(b"transfer-encoding", b"chunked")], b"x"), b"")
    assert take_answer(first[:-1], False, closed=True) is None
    with pytest.raises(NoAnswer):
        take_answer(b"SSH-2.0\r\n\r\n", False, closed=True)


def test_only_request_id_and_date_may_differ() -> None:
    def answer(name: str, value: str, body: str = "") -> bytes:
        return Answer(403, [(name.encode(), value.encode())], body.encode()).comparable()

    assert answer("request-id", "req_000000000001") == answer("request-id", "req_000000000002")
    assert answer("date", "now") == answer("date", "then")
    assert answer("a", "b", "req_000000000001") == answer("a", "b", "req_000000000002")
    assert answer("server", "a") != answer("server", "b")
    assert answer("a", "b", "x") != answer("a", "b", "y")


def test_holders_keep_their_keys_out_of_their_repr() -> None:
    assert KEY not in repr(Holder("a", "b", KEY))
