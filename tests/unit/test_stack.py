"""What the tests' own client makes of an answer that does not come to its end."""

import pytest

from tests.stack import CutShort, parse


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"])
def test_a_gateway_that_ends_before_it_has_answered_is_a_lost_connection(answer: bytes) -> None:
    with pytest.raises(ConnectionError):
        parse(answer)


@pytest.mark.parametrize("body", [b"", b"5\r\nhel", b"5\r\nhello\r\n", b"5\r\nhello\r\n0"])
def test_so_is_one_that_ends_within_a_body_in_chunks(body: bytes) -> None:
    with pytest.raises(CutShort):
        parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body)


def test_a_whole_answer_is_read() -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert parse(whole) == (200, {"transfer-encoding": "chunked"}, b"hello")
