"""Clients in a loop, with the stock SDK."""

from __future__ import annotations

import threading

import anthropic

WORKERS = 4


class Callers:
    """Threads that call with the stock SDK, without its retries, until they are told to stop."""

    def __init__(self, port: int, key: str, streams: bool = True, workers: int = WORKERS) -> None:
        self.failed: list[str] = []
        self.done = 0
        self._stop = threading.Event()
        self._url = f"http://127.0.0.1:{port}"
        self._key = key
        self._streams = streams
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(workers)]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        client = anthropic.Anthropic(base_url=self._url, api_key=self._key, max_retries=0, timeout=60)
        scenario = {"x-sandbox-scenario": "chunks=4;chunk-ms=10"}
        turn = number
        while not self._stop.is_set():
            turn += 1
            try:
                fields = {"model": "claude-sonnet-5-5", "max_tokens": 64, "extra_headers": scenario}
                said = [{"role": "user", "content": "hi"}]
                if self._streams and turn % 2:
                    with client.messages.stream(messages=said, **fields) as stream:
                        assert stream.get_final_message().stop_reason
                else:
                    assert client.messages.create(messages=said, **fields).content
            except Exception as error:  # noqa: BLE001 -- whatever it is, a call failed
                self.failed.append(f"{type(error).__name__}: {error}")
            self.done += 1
        client.close()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
