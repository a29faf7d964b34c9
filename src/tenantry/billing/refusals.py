"""Why a file of an invoice cannot be made; apart from what makes it, which may not be installed."""


class NotDrawn(Exception):
    """The PDF could not be made; the message says why."""


class NotStructured(Exception):
    """It is no e-invoice; the message says what is lacking."""
