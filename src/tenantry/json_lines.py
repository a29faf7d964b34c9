"""The log as JSON, an object in each line, for programs that gather logs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

# What a line may say beside its message (`extra=` of a call): which request, whose.
NAMED: Final = ("request_id", "tenant")


class JsonLines(logging.Formatter):
    """`time` (RFC 3339, UTC), `level`, `logger`, `pid`, `message`; `request_id` and `tenant` where a line is of one;
    `exception` where there was one, its traceback in one text. In ASCII, so that it does nothing to a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        line.update({name: getattr(record, name) for name in NAMED if getattr(record, name, None) is not None})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
