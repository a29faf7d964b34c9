"""The site: how it is, what goes on now, backups, proofs, and tasks that are under way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from msgspec import Meta

from tenantry import __version__
from tenantry.control.backup import BackupFailed
from tenantry.control.backup_files import backups_folder, list_backup_files, make_backup, named_by_time
from tenantry.control.doctor import examine
from tenantry.control.form import describe_form
from tenantry.control.invoice_round import ISSUING
from tenantry.control.isolation.prover import PROOF, ProofFailed, proof_work, proofs_folder
from tenantry.control.isolation.stage import Options
from tenantry.control.live_everywhere import health_everywhere, live_everywhere
from tenantry.control.recomputing import RECOMPUTATION
from tenantry.control.site import host
from tenantry.control.tasks import TaskView
from tenantry.control.tenant_detail import UseView, use_view
from tenantry.control.views import View
from tenantry.domain.printable import stamp
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.ledger.live import sum_live
from tenantry.storage.columns import new_id
from tenantry.web.answers import Refused
from tenantry.web.api.operations import Call, FileAt, Struct, operation
from tenantry.web.api.paging import Page, Paged, page_of
from tenantry.web.routing import require
from tenantry.web.tokens import tasks_of


@value
class SiteView(View):
    """`public_domain`: that of the clients' host names, "" where they have none."""

    version: str
    form: str
    public_url: str
    public_domain: str
    time_zone: str
    contact: str
    store: str


@operation("GET", "/site", Permission.SITE_READ)
def show_site(call: Call) -> SiteView:
    """Show version, addresses and time zone."""
    found = call.site.settings
    store = call.site.engine.dialect.name
    return SiteView(
        __version__,
        describe_form(),
        found.public_url,
        found.public_domain,
        found.time_zone,
        found.contact,
        store,
    )


@value
class FindingView(View):
    """`mend`: what to do where it is not `ok`."""

    check: str
    ok: bool
    found: str
    mend: str


@value
class DoctorView(View):
    ok: bool
    findings: list[FindingView]


@operation("GET", "/doctor", Permission.SITE_READ)
def examine_site(call: Call) -> DoctorView:
    """Check files, database, processes, booking, disk, clock, ports and upstreams; say how to mend each."""
    found = [FindingView(one.check, one.ok, one.found, one.mend) for one in examine(call.site.settings)]
    return DoctorView(all(one.ok for one in found), found)


@value
class LaneView(View):
    tenant: str
    uses: UseView


@operation("GET", "/live", Permission.TENANTS_READ)
def list_lanes(call: Call, query: Paged) -> Page[LaneView]:
    """List what each tenant that was served uses now, of those that the token may see."""
    now = sum_live(live_everywhere(call.site.engine, call.site.settings.journal_dir))
    found = [
        LaneView(row.slug, use_view(now.tenants[row.tenant_id]))
        for row in call.site.directory.list_tenants()
        if row.tenant_id in now.tenants and call.principal.may(Permission.TENANTS_READ, row.slug)
    ]
    return page_of(call, query, found, lambda one: one.tenant)


@value
class GatewayHealthView(View):
    """A gateway that lives. `credentials_dead`: until when. What it does not tell is empty."""

    run_id: str
    is_fresh: bool
    upstreams_down: list[str]
    credentials_dead: dict[str, str | None]
    credentials_spent: list[str]
    journal_works: bool
    directory_fault: str


@value
class HealthView(View):
    gateways: list[GatewayHealthView]


@operation("GET", "/health", Permission.SITE_READ)
def show_health(call: Call) -> HealthView:
    """Show each gateway that lives, and what it tells of upstreams and credentials."""
    names = {row.credential_id: row.name for row in call.site.directory.list_credentials()}
    found: list[GatewayHealthView] = []
    for one in health_everywhere(call.site.engine, call.site.settings.journal_dir):
        if one.told is None:
            found.append(GatewayHealthView(one.run_id, False, [], {}, [], True, ""))
            continue
        health = one.told.health
        dead = {names.get(name, name): until for name, until in health.credentials_dead.items()}
        spent = [names.get(name, name) for name in health.credentials_spent]
        fault, works = health.directory_fault, health.journal_works
        found.append(GatewayHealthView(one.run_id, one.is_fresh, health.upstreams_down, dead, spent, works, fault))
    return HealthView(found)


BACKUP: Final = "backup"
VERIFICATION: Final = "ledger verification"
# Whoever may begin one may look after it, also one that another has begun.
_NEEDS: Final = {
    PROOF: Permission.PROOF_RUN,
    BACKUP: Permission.BACKUPS_MAKE,
    VERIFICATION: Permission.LEDGER_CORRECT,
    RECOMPUTATION: Permission.LEDGER_CORRECT,
    ISSUING: Permission.INVOICES_ISSUE,
}


@operation("GET", "/tasks", Permission.SITE_READ)
def list_tasks(call: Call, query: Paged) -> Page[TaskView]:
    """List what is under way at any control, and what has ended lately: of what the token may begin itself."""
    may = {kind for kind, needed in _NEEDS.items() if call.principal.may(needed)}
    found = [one for one in tasks_of(call.request).list() if one.kind in may]
    return page_of(call, query, sorted(found, key=lambda one: one.task_id), lambda one: one.task_id)


@operation("GET", "/tasks/{task_id}", Permission.SITE_READ)
def show_task(call: Call, task_id: str) -> TaskView:
    """Show how far a task is, and what came of it; for who may begin one like it."""
    found = tasks_of(call.request).find(task_id)
    if found is None or found.kind not in _NEEDS:  # a later version's control runs it
        raise Refused(404, f"there is no task {task_id[:64]!r}: the newest are remembered")
    require(call.principal, _NEEDS[found.kind], None)
    return found


class ProofBody(Struct):
    """`tenants`: real ones, two at least, instead of throw-away ones; `messages`: a real message for each is sent."""

    tenants: Annotated[list[str], Meta(max_length=100)] = []
    quick: bool = False
    messages: bool = False


@operation("POST", "/proofs", Permission.PROOF_RUN, status=202, located="/tasks/{task_id}", is_atomic=False)
def start_proof(call: Call, body: ProofBody) -> TaskView:
    """Begin to try to get from one tenant into another; the task tells each group as it ends, and the verdict."""
    slugs = [call.site.directory.get_tenant(slug).slug for slug in dict.fromkeys(body.tenants)]
    if body.tenants and len(slugs) < 2:
        raise Refused(422, "isolation is between tenants: name at least two different ones")
    report = proofs_folder(call.site.settings) / f"{new_id('prf')}.html"
    work = proof_work(call.site, Options(tuple(slugs), body.quick, body.messages), report)
    return tasks_of(call.request).start(PROOF, call.principal.actor, work, (ProofFailed,))


@operation("GET", "/proofs/{report}", Permission.PROOF_RUN, media=("text/html",))
def download_proof(call: Call, report: str) -> FileAt:
    """Download the report of a proof, by the name that its task tells."""
    folder = proofs_folder(call.site.settings)
    if not folder.is_dir() or report not in [path.name for path in folder.glob("prf_*.html")]:
        raise Refused(404, f"there is no report {report[:64]!r} on the machine {host()}; a task names its own")
    return FileAt(folder / report, "text/html")


@value
class BackupFileView(View):
    file: str
    bytes: int
    made_at: str


@operation("GET", "/backups", Permission.BACKUPS_MAKE)
def list_backups(call: Call, query: Paged) -> Page[BackupFileView]:
    """List the backups that lie in the folder `backups` of the data directory."""
    found = [
        BackupFileView(path.name, told.st_size, stamp(datetime.fromtimestamp(int(told.st_mtime), UTC)))
        for path in list_backup_files(backups_folder(call.site.settings))
        if (told := path.stat())
    ]
    return page_of(call, query, found, lambda one: one.file)


class BackupBody(Struct):
    """`check`: then look whether it could be restored. `keep`: so many of the folder, and remove the oldest."""

    check: bool = False
    keep: Annotated[int, Meta(ge=1, le=100_000)] | None = None


@operation("POST", "/backups", Permission.BACKUPS_MAKE, status=202, located="/tasks/{task_id}", is_atomic=False)
def start_backup(call: Call, body: BackupBody) -> TaskView:
    """Begin a backup of database and journals into that folder. The master key is not in it, and no file leaves."""
    site = call.site
    file = named_by_time(backups_folder(site.settings))

    def work(_progress: object) -> dict[str, Any]:
        return make_backup(site, file, check=body.check, keep=body.keep).as_json()

    return tasks_of(call.request).start(BACKUP, call.principal.actor, work, (BackupFailed,))


OPERATIONS: Final = (
    show_site,
    examine_site,
    show_health,
    list_lanes,
    list_tasks,
    show_task,
    start_proof,
    download_proof,
    list_backups,
    start_backup,
)
