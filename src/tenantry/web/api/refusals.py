"""What the rooms below refuse, as the status that says so. What is not here is a fault of ours."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from tenantry.billing.books import SumsDiffer as BooksDiffer
from tenantry.billing.credits import NotCredited
from tenantry.billing.invoice import NotBilled
from tenantry.billing.months import BadMonth as BadBillingMonth
from tenantry.billing.refusals import NotStructured
from tenantry.billing.render import NotRendered
from tenantry.control.backup import BackupFailed
from tenantry.control.budgeting import BadUntil
from tenantry.control.declared.applying import ApplyRefused
from tenantry.control.declared.fields import BadField
from tenantry.control.declared.model import BadDeclaration
from tenantry.control.export_files import FormMissing
from tenantry.control.refusals import ProvisionFailed
from tenantry.control.summaries import BadWeek
from tenantry.control.tasks import TaskRunning
from tenantry.domain.alerts import BadThresholds
from tenantry.domain.billing_details import BadDetails
from tenantry.domain.durations import BadDuration
from tenantry.domain.hosts import BadHost
from tenantry.domain.limits import BadLimit
from tenantry.domain.money import BadAmount
from tenantry.domain.periods import BadPeriod
from tenantry.domain.plans import BadTerms
from tenantry.domain.price_terms import BadPriceTable
from tenantry.ledger.adjustments import BookedMeanwhile
from tenantry.ledger.exports import SumsDiffer
from tenantry.ledger.usage import BadMonth
from tenantry.storage.directory import AlreadyThere, DirectoryError, NotInDirectory
from tenantry.storage.directory.invoices import IssuedMeanwhile
from tenantry.storage.vault import MasterKeyUnusable, SecretUnreadable
from tenantry.web.answers import Refused

# A value that cannot be: of a body 422, of a query 400.
_VALUES: Final = (
    BadAmount,
    BadBillingMonth,
    BadDetails,
    BadDuration,
    BadField,
    BadHost,
    BadLimit,
    BadMonth,
    BadPeriod,
    BadPriceTable,
    BadTerms,
    BadThresholds,
    BadUntil,
    BadWeek,
    FormMissing,
)
# How things stand is against it.
_STATES: Final = (
    AlreadyThere,
    ApplyRefused,
    BookedMeanwhile,
    BooksDiffer,
    IssuedMeanwhile,
    NotBilled,
    NotCredited,
    NotRendered,
    NotStructured,
    SumsDiffer,
    TaskRunning,
)
_BUSY_SECONDS: Final = "1"


@contextmanager
def told_apart(*, is_write: bool, is_confined: bool) -> Generator[None]:
    """Raises HTTPException for what the rooms below refuse.

    Who `is_confined` to some tenants is not told what else there is: behind the semicolon stands what was meant.
    """
    try:
        yield
    except NotInDirectory as error:
        raise Refused(404, str(error).partition(";")[0] if is_confined else str(error)) from None
    except _STATES as error:
        raise Refused(409, str(error)) from None
    except BadDeclaration as error:
        problems = [{"in": one.file, "line": one.line, "detail": one.text} for one in error.problems]
        raise Refused(422, "\n".join(str(one) for one in error.problems), None, errors=problems) from None
    except _VALUES as error:
        raise Refused(422 if is_write else 400, str(error)) from None
    except (DirectoryError, ProvisionFailed) as error:
        raise Refused(422 if is_write else 409, str(error)) from None
    except (SecretUnreadable, MasterKeyUnusable, BackupFailed) as error:
        raise Refused(503, str(error)) from None
    except OperationalError as error:
        reason = str(error).splitlines()[0]
        raise HTTPException(503, f"the database cannot be used: {reason}", {"retry-after": _BUSY_SECONDS}) from None
