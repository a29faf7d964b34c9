"""What a client's portal is: who looks at it, and how long what they hold works; the agency's colour on it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from tenantry.domain.values import value

# A link is kept in a mail or a password manager; a month is as long as what it shows first.
LINK_DAYS: Final = 30
LINK_DAYS_MAX: Final = 366
# Whoever comes again opens the link again.
SESSION_HOURS: Final = 24
# More than a client has people; old ones are revoked.
LINKS_MAX: Final = 100
# WCAG 2.2 1.4.3, of text of usual size: what is written on the colour is white, or the colour is written on white.
CONTRAST_MIN: Final = 4.5
DEFAULT_COLOUR: Final = "#1d4ed8"

_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}", re.ASCII)


@value
class PortalLink:
    """A link that was made. `state`: active, expired or revoked. `opened_at`: last."""

    link_id: str
    state: str
    shows_invoices: bool
    actor: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    opened_at: datetime | None


@value
class PortalTerms:
    """What the portal of a tenant allows beyond looking, and whether it asks for a password."""

    may_rotate: bool = False
    has_password: bool = False


@value
class PortalVisit:
    """A browser that came by a link. `is_proved`: where the portal has a password, it was given."""

    link_id: str
    tenant_id: str
    slug: str
    shows_invoices: bool
    terms: PortalTerms
    is_proved: bool

    @property
    def actor(self) -> str:
        """Whom the audit log names."""
        return f"portal:{self.slug}"


def read_colour(text: str) -> str:
    """A colour that white can be read on, and that can be read on white. Raises: ValueError."""
    if not _COLOUR.fullmatch(text):
        raise ValueError("must be a colour such as #1d4ed8")
    contrast = 1.05 / (_luminance(text) + 0.05)
    if contrast < CONTRAST_MIN:
        raise ValueError(
            f"must be darker: white on it has a contrast of {contrast:.1f} to 1, and {CONTRAST_MIN} is needed"
        )
    return text.lower()


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
