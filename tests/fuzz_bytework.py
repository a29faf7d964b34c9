"""The compiled byte work, built with sanitizers, against the one in Python, for a while (`make fuzz-native`).

Every byte that a call has no business with is poisoned while it runs: the NUL behind an argument, and for events also
what stands before and behind them.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from tenantry.wire import bytes_in_python, plain_in_python
from tests import plain_cases
from tests.byte_cases import NAMES_OF_CALLS, cases, function_of, outcome

BYTES, PLAIN = "_bytes", "_plain"
# Where the bytes of a bytes object begin; a NUL stands behind them.
HEADER_BYTES = sys.getsizeof(b"") - 1


def load(folder: str, name: str) -> ModuleType:
    path, full_name = f"{folder}/{name}.abi3.so", f"tenantry.wire.{name}"
    spec = spec_from_file_location(full_name, path, loader=ExtensionFileLoader(full_name, path))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Poison:
    """Bytes that the address sanitizer lets nobody touch. It knows them by eights, so the first few may be free."""

    def __init__(self) -> None:
        sanitizer = ctypes.CDLL(None)
        region = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t)
        self._poison = region(("__asan_poison_memory_region", sanitizer))
        self._free = region(("__asan_unpoison_memory_region", sanitizer))

    @contextmanager
    def around(self, name: str, arguments: tuple[object, ...]) -> Iterator[None]:
        regions: list[tuple[int, int]] = []
        for at, argument in enumerate(arguments):
            if type(argument) is not bytes or len(argument) < 2:
                continue  # the empty one and those of one byte belong to everybody
            begin, start, stop = id(argument) + HEADER_BYTES, 0, len(argument)
            if name == "count_deltas" and at == 0:
                _, first, last, _ = arguments
                assert isinstance(first, int)
                assert isinstance(last, int)
                if 0 <= first <= last <= stop:
                    start, stop = first, last
            regions += [(begin, start), (begin + stop, len(argument) + 1 - stop)]
        for place, size in regions:
            self._poison(place, size)
        try:
            yield
        finally:
            for place, size in regions:
                self._free(place, size)


def owned(arguments: tuple[object, ...]) -> tuple[object, ...]:
    """The same, with each of its bytes in memory of its own."""
    return tuple(bytes(bytearray(given)) if type(given) is bytes else given for given in arguments)


def fuzz(work: ModuleType, plain: ModuleType, seconds: float, rng: random.Random) -> int:
    poison, calls, end = Poison(), 0, time.monotonic() + seconds

    def pair(name: str) -> tuple[Callable[..., object], Callable[..., object]]:
        return function_of(bytes_in_python, name), function_of(work, name)

    pairs = {name: pair(name) for name in NAMES_OF_CALLS}
    while time.monotonic() < end:
        name, arguments = cases(rng)
        arguments = owned(arguments)
        reference, compiled = pairs[name]
        expected = outcome(reference, arguments)
        with poison.around(name, arguments):
            told = outcome(compiled, arguments)
        assert told == expected, (name, arguments, expected, told)
        name, arguments = plain_cases.cases(rng)
        arguments = owned(arguments)
        expected = outcome(getattr(plain_in_python, name), arguments)
        with poison.around(name, arguments):
            told = outcome(getattr(plain, name), arguments)
        # What is plain to one of them only is for the full readers.
        assert told == expected or None in (told, expected), (name, arguments, expected, told)
        calls += 2
        if calls % 10_000 == 0:
            pairs = {name: pair(name) for name in NAMES_OF_CALLS}
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libraries", required=True, help="the folder of the libraries, built with sanitizers")
    parser.add_argument("--seconds", type=float, default=60)
    told = parser.parse_args()
    seed = int(os.environ.get("TENANTRY_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
    print(f"TENANTRY_SEED={seed}", flush=True)
    calls = fuzz(load(told.libraries, BYTES), load(told.libraries, PLAIN), told.seconds, random.Random(seed))
    print(f"{calls:,} calls, all as in Python, none out of bounds")


if __name__ == "__main__":
    main()
