"""Two files, whole or not at all, and never over files that are there unless that is asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path


class WouldOverwrite(Exception):
    """Files are there already; the message names them."""


def write_files(folder: Path, texts: Mapping[str, str], *, force: bool) -> list[Path]:
    """Write each text to `folder / name`; the paths.

    Raises:
        WouldOverwrite: one of them is there and `force` is not set. Nothing was written.
        OSError: the folder cannot be written. Nothing was changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in texts]
    there = [path for path in paths if path.exists() or path.is_symlink()]
    if there and not force:
        raise WouldOverwrite(
            f"{' and '.join(str(path) for path in there)} {'is' if len(there) == 1 else 'are'} there already; "
            "nothing was written. Choose another folder with --out DIR, or overwrite with --force"
        )
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}.new") for path in paths}
    try:
        for path, text in zip(paths, texts.values(), strict=True):
            _write(drafts[path], text)
        _put_in_place(drafts, force)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return paths


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(drafts: Mapping[Path, Path], force: bool) -> None:
    """All drafts to their places, or none: what was there is kept aside until the last is in place."""
    done: list[tuple[Path, Path | None]] = []
    try:
        for path, draft in drafts.items():
            kept = path.with_name(f".{path.name}.{os.getpid()}.old") if force and path.exists() else None
            if kept is not None:
                os.replace(path, kept)
            done.append((path, kept))
            # A link fails where a file has appeared meanwhile; a rename would take its place.
            os.link(draft, path)
    except OSError:
        for path, kept in reversed(done):
            if kept is not None:
                os.replace(kept, path)
            elif path.exists() and _is_same(path, drafts[path]):
                path.unlink()
        raise
    for _, kept in done:
        if kept is not None:
            kept.unlink(missing_ok=True)


def _is_same(path: Path, draft: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.samefile(draft)
    return False
