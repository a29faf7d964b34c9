"""The guide as a page: what it says is text, each example can be copied, and limits have whole names."""

from __future__ import annotations

import re
from html import unescape

from starlette.applications import Starlette

from tenantry.control.client_guide import guide_facts
from tenantry.control.guide.page import guide_markdown
from tenantry.control.site import Site
from tenantry.domain.limits import LIMITS
from tenantry.web.pages.marks import LIMIT_TITLES
from tests.browser import Answer, signed_in


def copies_every_example(page: Answer, site: Site, slug: str) -> None:
    """As it stands in the Markdown, each with its button."""
    markdown = guide_markdown(guide_facts(site, slug))
    wanted = [one.strip() for one in re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)]
    shown = re.findall(r'<pre tabindex="0" id="(code-\d+)">(.*?)</pre>', page.text, re.DOTALL)
    assert [unescape(text).strip() for _, text in shown] == wanted != []
    for mark, _ in shown:
        assert f'data-copy="#{mark}"' in page.text
    assert "```" not in page.text


def test_the_guide_is_a_page_and_each_example_can_be_copied(shared_app: Starlette, shared: Site) -> None:
    page = signed_in(shared_app, shared).get("/tenants/acme/guide")
    copies_every_example(page, shared, "acme")
    assert "<h1>Claude access for Acme</h1>" in page.text
    for anchor in re.findall(r'<a href="#([\w-]+)">', page.text.partition('aria-label="In the guide"')[2]):
        assert f'id="{anchor}"' in page.text


def test_every_limit_has_a_whole_name_on_every_page(shared_app: Starlette, shared: Site) -> None:
    assert set(LIMIT_TITLES) == set(LIMITS)
    browser = signed_in(shared_app, shared)
    for path in ("/tenants/acme", "/tenants/acme/limits", "/tiers/standard", "/upstreams"):
        shown = browser.get(path).shown
        for short in ("rpm", "itpm", "otpm"):
            assert not re.search(rf"\b{short}\b", shown), (path, short)
    assert "Input tokens a minute" in browser.get("/tenants/acme/limits").shown
