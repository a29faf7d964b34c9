"""The proof of isolation: run, watched, downloaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from tenantry.control.isolation.findings import VERDICT_CHARS
from tenantry.control.isolation.prover import PROOF, ProofFailed, proof_work, proofs_folder
from tenantry.control.isolation.stage import NOT_COVERED, PROVES, Options
from tenantry.control.site import host
from tenantry.control.tasks import TaskRunning, TaskView
from tenantry.domain.roles import Principal
from tenantry.storage.columns import new_id
from tenantry.web.pages.showing import show
from tenantry.web.pages.working import last
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of, tasks_of


def show_isolation(request: Request, principal: Principal) -> Response:
    return _shown(request, principal, "isolation")


def show_progress(request: Request, principal: Principal) -> Response:
    """The part that changes, for htmx."""
    return _shown(request, principal, "isolation_run")


def _shown(request: Request, principal: Principal, template: str) -> Response:
    task = last(request, PROOF)
    lines = task.progress if task is not None else []
    return show(
        request,
        principal,
        template,
        task=task,
        is_here=task is None or _lies_here(request, task),
        begun_at=datetime.fromisoformat(task.begun_at) if task is not None else None,
        # What failed in a group stands below it, further in.
        ended=[(line[:VERDICT_CHARS].strip(), line[VERDICT_CHARS:]) for line in lines if not line.startswith(" ")],
        proves=list(PROVES.values()),
        not_covered=NOT_COVERED,
        earlier=site_of(request).directory.newest_audit(5, action="isolation.verify"),
    )


def _lies_here(request: Request, task: TaskView) -> bool:
    """Whether its report is, or will be, a file of this machine."""
    if task.result is None:
        return task.machine == host()
    return _report_of(request, task.result).exists()


def _report_of(request: Request, done: dict[str, Any]) -> Path:
    return proofs_folder(site_of(request).settings) / done["report"]


def start(request: Request, principal: Principal) -> Response:
    site = replace(site_of(request), directory=acting(request, principal))
    report = proofs_folder(site.settings) / f"{new_id('prf')}.html"
    work = proof_work(site, Options(quick=posted(request).get("how") == "quick"), report)
    try:
        tasks_of(request).start(PROOF, principal.actor, work, (ProofFailed,))
    except TaskRunning:
        return see_other("/isolation", "A proof runs already.")
    return see_other("/isolation")


def download_report(request: Request, _principal: Principal) -> Response:
    """Of the last run, whoever began it."""
    task = last(request, PROOF)
    done: dict[str, Any] | None = task.result if task is not None else None
    if task is None or done is None:
        raise HTTPException(404, "there is no report: run the proof first")
    path = _report_of(request, done)
    if not path.exists():
        raise HTTPException(404, f"the report of the last proof lies on the machine {task.machine}: ask control there")
    return FileResponse(path, media_type="text/html; charset=utf-8", filename=f"isolation-{done['run']}.html")
