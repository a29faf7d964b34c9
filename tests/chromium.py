"""Debian's Chromium, driven by Playwright: pages as people see them. Nothing but the page's own origin is spoken to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import BrowserContext, Page, Playwright, Request, sync_playwright

from tests.stack import wait_for

EXECUTABLE: Final = shutil.which("chromium")
AXE: Final = Path(__file__).parent / "vendor" / "axe.min.js"
# Build artefacts, for somebody to look at; git ignores them.
SCREENSHOTS: Final = Path(__file__).parents[1] / ".screenshots"
DESK: Final = (1280, 900)
PHONE: Final = (375, 812)
SIZES: Final = {"desk": DESK, "phone": PHONE}
SCHEMES: Final = ("light", "dark")
# Notes when the frame is drawn that shows another value of an element than `before`, by the page's own clock.
_WATCH: Final = """([selector, before]) => {
  window.shownAt = null;
  new MutationObserver((_, observer) => {
    const found = document.querySelector(selector);
    if (!found || found.value === before) return;
    observer.disconnect();
    requestAnimationFrame(() => { window.shownAt = performance.now(); });
  }).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""


@dataclass(slots=True)
class Room:
    """Pages below `origin`. `complaints`: errors of the console and of scripts, and requests to anywhere else."""

    playwright: Playwright
    browser: Any
    origin: str
    complaints: list[str] = field(default_factory=list[str])

    def context(self, secret: str | None = None, size: tuple[int, int] = DESK, scheme: str = "light") -> BrowserContext:
        """A browser's profile, signed in with the session `secret`."""
        made: BrowserContext = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
        )
        made.set_default_timeout(20_000)
        if secret is not None:
            made.add_cookies([{"name": "tenantry", "value": secret, "url": self.origin, "httpOnly": True}])
        made.on("page", lambda page: self._watch(page))
        return made

    def _watch(self, page: Page) -> None:
        page.on("console", lambda told: self._told(told.type, told.text, page))
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("request", lambda asked: self._asked(asked))

    def _told(self, kind: str, text: str, page: Page) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{page.url}: {text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.complaints.append(f"a request left the origin: {request.url}")

    def take_complaints(self) -> list[str]:
        found, self.complaints = self.complaints, []
        return found


@contextmanager
def opened_room(origin: str) -> Generator[Room]:
    """One browser for many pages."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield Room(playwright, browser, origin)
        finally:
            browser.close()


def seen_after_ms(page: Page, selector: str, act: Callable[[], object]) -> float:
    """How long after the end of `act` the page showed, by itself, another value of a `<data>` than before it, in ms."""
    page.evaluate(_WATCH, [selector, page.get_attribute(selector, "value")])
    act()
    ended: float = page.evaluate("() => performance.now()")
    shown: float = wait_for(lambda: page.evaluate("() => window.shownAt"), what=f"another value of {selector}")
    return shown - ended


def violations(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """What axe-core finds that keeps somebody from using the page, or makes it hard; by some of its rules, or all."""
    # The page's own policy forbids a script that is written into it; the driver's world is another.
    if not page.evaluate("() => typeof window.axe === 'object'"):
        page.evaluate(AXE.read_text() + "; window.axe = axe; null")
    only = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found = page.evaluate("(only) => axe.run(document, {resultTypes: ['violations'], ...only})", only)
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: " + "; ".join(node["html"][:160] for node in one["nodes"][:3])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
