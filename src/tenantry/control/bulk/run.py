"""Several clients at once: each whole or not at all, and none twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sqlalchemy.exc import OperationalError

from tenantry.control.bulk.clients import Client, Known, choice_of
from tenantry.control.bulk.keys_file import KeysFile
from tenantry.control.client_guide import write_client_guide
from tenantry.control.live_check import LiveCheckFailed, check_live
from tenantry.control.provisioning import Terms, provision
from tenantry.control.refusals import ProvisionFailed
from tenantry.control.site import Site, endpoint_of
from tenantry.storage.directory import DirectoryError, NotInDirectory
from tenantry.storage.directory.tenants import TenantChange
from tenantry.storage.records import TenantRecord

# Making one is mostly waiting: for the new key to reach the gateway, for the live call, for the disk.
AT_ONCE = 8
# Of a key that takes the place of one that an interrupted run made and could not tell.
SECOND_KEY_LABEL = "first key, issued again"


class Result(StrEnum):
    MADE = "made"
    FINISHED = "finished"
    THERE = "there already"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a client; `detail` is its endpoint, or why it failed."""

    client: Client
    result: Result
    detail: str


def known_of(site: Site) -> Known:
    """What the rows of a file are checked against."""
    return Known(
        tiers=[tier.name for tier in site.directory.list_tiers()],
        credentials={row.name: row.shared for row in site.directory.list_credentials()},
        tenants={row.slug: row.name for row in site.directory.list_tenants()},
    )


def provision_clients(site: Site, clients: list[Client], keys: KeysFile, guide_folder: Path) -> Iterator[Outcome]:
    """Make each client that is not there, some at once; the outcomes come in the order of the clients."""
    left_by_a_kill = keys.started()

    def make(client: Client) -> Outcome:
        try:
            return _one(site, client, keys, guide_folder, was_begun=client.slug in left_by_a_kill)
        except (ProvisionFailed, DirectoryError, LiveCheckFailed, OSError, ValueError, OperationalError) as error:
            return Outcome(client, Result.FAILED, str(error))

    pool = ThreadPoolExecutor(AT_ONCE, "provision")
    try:
        yield from pool.map(make, clients)
    finally:
        # After Ctrl-C those that were begun are made whole, and no more are begun.
        pool.shutdown(cancel_futures=True)


def _one(site: Site, client: Client, keys: KeysFile, guide_folder: Path, *, was_begun: bool) -> Outcome:
    endpoint = endpoint_of(site.settings, client.slug)
    standing = _standing(site, client.slug)
    if standing is not None and was_begun and client.slug not in keys.slugs:
        if standing.credential is not None:
            return _finish(site, client, keys, guide_folder)
        site.directory.remove_tenant(client.slug, None, "left half-made by a run that was interrupted")
        standing = None
    if standing is not None:
        return Outcome(client, Result.THERE, endpoint if client.slug in keys.slugs else f"{endpoint}, made elsewhere")
    choice = choice_of(client)
    keys.begin(client.slug)
    terms = Terms(client.contact, client.budgets)
    try:
        made = provision(site, client.name, client.tier, choice, guide_folder, client.slug, terms=terms)
    except ProvisionFailed:
        keys.end(client.slug)
        raise
    keys.add(client.slug, client.name, made.endpoint, made.key, made.key_id)
    return Outcome(client, Result.MADE, made.endpoint)


def _standing(site: Site, slug: str) -> TenantRecord | None:
    try:
        return site.directory.get_tenant(slug)
    except NotInDirectory:
        return None


def _finish(site: Site, client: Client, keys: KeysFile, guide_folder: Path) -> Outcome:
    """The tenant stands, but nobody knows its key: it gets another one. Nothing that may be in use is taken away."""
    key = site.directory.issue_key(client.slug, SECOND_KEY_LABEL)
    check_live(site.settings, client.slug, key.text)
    # Made whole by this version; one before it could be killed between the tenant and its terms.
    site.directory.set_tenant(client.slug, TenantChange(contact=client.contact, budgets=client.budgets))
    write_client_guide(site, client.slug, guide_folder)
    endpoint = endpoint_of(site.settings, client.slug)
    keys.add(client.slug, client.name, endpoint, key.text, key.key_id)
    return Outcome(client, Result.FINISHED, endpoint)
