"""The guide as Markdown, and the same text as one HTML page that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from tenantry.control.guide.errors import ADVICE
from tenantry.control.guide.facts import Facts
from tenantry.control.guide.words import expectations, limits_in_words, not_offered

if TYPE_CHECKING:
    from markdown_it.token import Token

# As markdown-it calls what renders a kind of token.
Rule: TypeAlias = "Callable[..., str]"
# What would begin markup inside a line; a client may be called `Smith & Sons *Ltd*`.
_MARKUP = re.compile(r"([\\`*_\[\]<>|#~&!])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


_environment = Environment(
    loader=PackageLoader("tenantry.control.guide"),
    autoescape=select_autoescape(["html.j2"], default=False),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def plain(text: str) -> str:
    """Text from outside as one line of Markdown that means only itself."""
    return _MARKUP.sub(r"\\\1", _CONTROL.sub(" ", text).strip())


def cell(text: str) -> str:
    """Markdown of our own, safe inside a table."""
    return text.replace("|", "\\|")


_environment.filters["plain"] = plain
_environment.filters["cell"] = cell


def guide_markdown(facts: Facts) -> str:
    """The whole guide."""
    return _environment.get_template("client.md.j2").render(_context(facts), level="###")


def fair_use_markdown(facts: Facts, level: str = "##") -> str:
    """The fair-use terms alone; `level` is that of the headings below their title."""
    return _environment.get_template("fair_use.md.j2").render(_context(facts), level=level)


def _context(facts: Facts) -> dict[str, Any]:
    limits = limits_in_words(facts.limits)
    return {
        "facts": facts,
        "limits": limits,
        "value": {name: row.value for row in limits for name in row.limits},
        "expectations": expectations(facts.limits, facts.offers_batches),
        "advice": ADVICE,
        "not_offered": not_offered(facts.offers_batches),
    }


def guide_page(facts: Facts, markdown: str) -> str:
    """`markdown` as one self-contained HTML page with a table of contents."""
    contents, body = _rendered(markdown, {})
    return _environment.get_template("page.html.j2").render(
        title=f"Claude access for {facts.name}", contents=contents, body=body
    )


def guide_parts(markdown: str) -> tuple[list[tuple[str, str]], Markup]:
    """The same for a page of ours: its contents, and its text with a button to copy beside each block of code."""
    return _rendered(markdown, {"fence": _copied, "table_open": _scrolled, "table_close": _scrolled_end})


def _rendered(markdown: str, rules: Mapping[str, Rule]) -> tuple[list[tuple[str, str]], Markup]:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    tokens = parser.parse(markdown)
    contents = _number_headings(tokens)
    # The renderer has escaped everything that is not its own markup (`html` is off), and so do the rules.
    return contents, Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 -- escaped by markdown-it


def _copied(_renderer: object, tokens: Sequence[Token], place: int, _options: object, _env: object) -> str:
    number = sum(one.type == "fence" for one in tokens[: place + 1])
    return Markup(
        '<div class="snippet"><pre tabindex="0" id="code-{0}">{1}</pre><button type="button" class="outline small" '
        'data-copy="#code-{0}" aria-label="Copy example {0}">Copy</button></div>\n'
    ).format(number, tokens[place].content)


def _scrolled(*_: object) -> str:
    return '<div class="table-scroll" tabindex="0" role="region" aria-label="Table"><table>\n'


def _scrolled_end(*_: object) -> str:
    return "</table></div>\n"


def _number_headings(tokens: list[Token]) -> list[tuple[str, str]]:
    """Give each second-level heading an anchor; the anchors with their texts."""
    contents: list[tuple[str, str]] = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.tag == "h2":
            anchor = re.sub(r"[^a-z0-9]+", "-", inline.content.lower()).strip("-")
            opening.attrSet("id", anchor)
            contents.append((anchor, inline.content))
    return contents
