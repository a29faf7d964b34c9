"""Budgets and alerts as an agency uses them: commands, a real control process, a target that listens."""

import json
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import delete, insert, select, update
from typer.testing import CliRunner, Result

from tenantry.app import Processes
from tenantry.cli.main import build_cli
from tenantry.domain.prices import load_default_prices
from tenantry.ledger.opening import open_counters
from tenantry.storage.tables import alert_deliveries, alerts, quarantine
from tests.acceptance.test_commands import tenantry
from tests.stack import Stack, wait_for
from tests.unit.control.test_alerting import Target, verify

# Apprise imports it on a Python that still has it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def here(stack: Stack, *words: str, stdin: str = "", **environ: str) -> Result:
    """A command in this process, which starts a hundred times faster."""
    return CliRunner().invoke(build_cli(Processes()), words, input=stdin, env=stack.environ | environ)


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


def test_a_budget_is_set_shown_raised_and_removed(stack: Stack) -> None:
    key = stack.tenant("shown")
    key_id = stack.site.directory.list_keys("shown")[0].key_id
    assert "has no budget" in tenantry(stack, "budget", "show", "shown").stdout
    done = tenantry(stack, "budget", "set", "shown", "--month", "50", "--day", "0.000000001", "--mode", "soft")
    assert (done.returncode, done.stdout.strip()) == (0, "shown: $0.000000001 a day, $50.00 a month (soft)")
    assert tenantry(stack, "budget", "set", "shown", "--week", "7", "--key", key_id).returncode == 0
    raised = tenantry(stack, "budget", "raise", "shown", "--by", "20", "--until", "2999-11-30")
    assert raised.stdout.strip() == "shown: $70.00 a month until 2999-12-01T00:00:00Z, then $50.00 again"
    assert stack.message(key)[0] == 200
    wait_for(lambda: stack.rows("shown"), what="the row")
    report = json.loads(tenantry(stack, "budget", "show", "shown", "--json").stdout)
    cost = sum(row["cost_nanos"] for row in stack.rows("shown"))
    day, month, week = report["budgets"]
    assert report["mode"] == "soft"
    assert (day["spent_nanos"], day["left_nanos"], day["used_percent"]) == (cost, 0, cost * 100)
    assert (month["amount_nanos"], month["raised_nanos"], month["left_nanos"]) == (
        70 * 10**9,
        20 * 10**9,
        70 * 10**9 - cost,
    )
    assert (week["key_id"], week["spent_nanos"], week["period"]) == (key_id, cost, "week")
    table = tenantry(stack, "budget", "show", "shown").stdout
    assert "$70.00" in table
    assert f"key {key_id}" in table
    assert tenantry(stack, "budget", "set", "shown", "--day", "none", "--month", "none").stdout == "shown: no budget\n"
    actions = [row.action for row in stack.site.directory.list_audit()]
    assert actions.count("budget.raise") == 1
    assert actions.count("budget.set") == 3


def test_budget_show_counts_what_a_gateway_counts_and_shows_apart_what_is_set_aside(stack: Stack) -> None:
    key = stack.tenant("aside")
    tenant_id, key_id = (
        stack.site.directory.get_tenant("aside").tenant_id,
        stack.site.directory.list_keys("aside")[0].key_id,
    )
    assert here(stack, "budget", "set", "aside", "--month", "50").exit_code == 0
    assert here(stack, "budget", "set", "aside", "--day", "9", "--key", key_id).exit_code == 0
    assert stack.message(key)[0] == stack.message(key, model="claude-new-1")[0] == 200
    wait_for(lambda: len(stack.rows("aside")) == 2, what="the rows")
    held = sum(row["held_nanos"] or 0 for row in stack.rows("aside"))
    line = {"run_id": "r", "file_number": 1, "offset": 0, "reason": "test", "line": b"x", "nanos": 77_000_000}
    with stack.site.engine.begin() as connection:
        own = {"tenant_id": tenant_id, "key_id": key_id, "found_at_us": time.time_ns() // 1000}
        connection.execute(insert(quarantine).values(line | own))
    report = json.loads(here(stack, "budget", "show", "aside", "--json").stdout)
    settings = stack.site.settings
    opening = open_counters(
        stack.site.engine, settings.data_dir / "journal", load_default_prices(), settings.zone, time.time_ns() // 1000
    )
    month, day = report["budgets"]
    for shown, counted in ((month, opening.of(tenant_id)["month"]), (day, opening.of(tenant_id, key_id)["day"])):
        assert shown["counted_nanos"] == counted == shown["amount_nanos"] - shown["left_nanos"]
        assert (shown["unpriced_nanos"], shown["quarantined_nanos"]) == (held, 77_000_000)
        assert shown["spent_nanos"] == counted - held - 77_000_000 > 0
    table = here(stack, "budget", "show", "aside").stdout
    assert "tenant, month: $0.077 is set aside for attempts that could not be booked" in table
    assert "for attempts whose model has no price" in table
    with stack.site.engine.begin() as connection:
        connection.execute(delete(quarantine))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["set", "wrong", "--month", "-5"], 2, "above 0"),
        (["set", "wrong", "--month", "0"], 2, "above 0"),
        (["set", "wrong", "--month", "NaN"], 2, "plain decimal"),
        (["set", "wrong", "--month", "1e400"], 2, "plain decimal"),
        (["set", "wrong", "--month", "1000000001"], 2, "at most $1,000,000,000.00"),
        (["set", "wrong", "--month", "0.0000000001"], 2, "nine places"),
        (["set", "wrong", "--month", ""], 2, "plain decimal"),
        (["set", "wrong"], 2, "say what to set"),
        (["set", "wrong", "--mode", "squishy"], 1, "hard or soft"),
        (["set", "wrong", "--month", "5", "--key", "key_nobody"], 1, "no key"),
        (["set", "nobody", "--month", "5"], 1, "no tenant"),
        (["show", "nobody"], 1, "no tenant"),
        (["raise", "wrong", "--by", "5", "--until", "2999-01-01"], 1, "no budget by month"),
        (["raise", "wrong", "--by", "5", "--until", "soon"], 2, "a day such as"),
        (["raise", "wrong", "--by", "5", "--until", "2999-01-01T00:00:00"], 2, "a day such as"),
        (["raise", "wrong", "--by", "none", "--until", "2999-01-01"], 2, "amount of dollars"),
        (["raise", "wrong", "--by", "5", "--until", "2999-01-01", "--period", "year"], 2, "month, week, day or plan"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_in_words(stack: Stack, words: list[str], code: int, message: str) -> None:
    if not any(row.slug == "wrong" for row in stack.site.directory.list_tenants()):
        stack.site.directory.create_tenant("wrong", "Wrong", "standard")
    done = here(stack, "budget", *words)
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
    assert stack.site.directory.list_budgets("wrong")[""].caps == ()


def test_a_threshold_is_told_once_and_reaches_the_target(stack: Stack, target: Target) -> None:
    key = stack.tenant("alerted")
    added = tenantry(stack, "alerts", "targets", "add", "ops", "--webhook", target.url, "--tenant", "alerted")
    assert added.returncode == 0, added.stderr
    secret = added.stdout.split("shown only now): ")[1].strip()
    assert tenantry(stack, "budget", "set", "alerted", "--month", "0.000001", "--mode", "soft").returncode == 0
    assert stack.message(key)[0] == 200
    wait_for(lambda: len(target.got) == 3, what="the alerts")
    headers, body = target.got[0]
    assert verify(secret, headers["x-tenantry-signature"], body, time.time())
    assert [json.loads(body)["detail"]["threshold_percent"] for _, body in target.got] == [70, 90, 100]
    listed = json.loads(tenantry(stack, "alerts", "list", "--tenant", "alerted", "--json").stdout)
    assert [row["deliveries"] for row in listed] == [{"sent": 1, "waiting": 0, "given_up": 0}] * 3
    assert stack.message(key)[0] == 200
    stack.final_rows("alerted", 2)
    # What comes of a later row has been told, and nothing more of this one's.
    later = stack.tenant("later")
    stack.site.directory.set_budgets("later", {"month": 1000}, mode="soft")
    wait_for(lambda: stack.message(later)[0] == 200 and raised(stack, "later"), what="another's alert")
    assert (len(raised(stack, "alerted")), len(target.got)) == (3, 3)


def raised(stack: Stack, slug: str) -> list[int]:
    """The alerts of a tenant."""
    with stack.site.engine.connect() as connection:
        return list(connection.execute(select(alerts.c.alert_id).where(alerts.c.slug == slug)).scalars())


def test_targets_and_thresholds_are_managed_and_their_urls_never_shown(stack: Stack, target: Target) -> None:
    stack.site.directory.create_tenant("quiet", "Quiet", "standard")
    words = ["alerts", "targets", "add", "chat", "--apprise-env", "CHAT_URL", "--kinds", "spend_spike"]
    url = f"json://user:pass-canary@127.0.0.1:{target.port}/canary-path"
    assert here(stack, *words, CHAT_URL=url).exit_code == 0
    again = here(stack, *words, CHAT_URL=url)
    assert (again.exit_code, "already" in again.stderr) == (1, True)
    shown = here(stack, "alerts", "targets", "list").stdout
    assert "chat\tapprise\tjson://...path" in shown
    assert "canary" not in shown
    tested = here(stack, "alerts", "test", "chat")
    assert (tested.exit_code, tested.stdout) == (0, "chat: taken\n")
    target.status = 500
    logged = tenantry(stack, "alerts", "test", "chat", LOG_LEVEL="debug")
    assert logged.returncode == 1
    assert "canary" not in logged.stdout + logged.stderr
    assert here(stack, "alerts", "targets", "remove", "chat").exit_code == 2
    assert here(stack, "alerts", "targets", "remove", "chat", "--yes").exit_code == 0
    assert here(stack, "alerts", "test", "chat").exit_code == 1
    assert here(stack, "alerts", "thresholds", "quiet").stdout == "quiet: 70 %, 90 %, 100 % (default)\n"
    assert here(stack, "alerts", "thresholds", "quiet", "50,100").stdout == "quiet: 50 %, 100 %\n"
    assert here(stack, "alerts", "thresholds", "quiet", "none").stdout == "quiet: no thresholds\n"
    assert "default" in here(stack, "alerts", "thresholds", "quiet", "default").stdout
    assert here(stack, "alerts", "thresholds", "quiet", "0").exit_code == 2


@pytest.mark.parametrize(
    ("words", "stdin", "message"),
    [
        (["x"], "", "exactly one of"),
        (["x", "--apprise-stdin", "--webhook", "https://a.example/"], "", "exactly one of"),
        (["x", "--apprise-stdin"], "", "is empty"),
        (["x", "--apprise-env", "NOT_SET_ANYWHERE"], "", "is empty"),
        (["x", "--apprise-stdin"], "nosuch://canary", "does not know"),
        (["x", "--webhook", "http://canary.example/"], "", "must be https"),
        (["x", "--webhook", "https://a.example/", "--kinds", "gossip"], "", "no kind of alert 'gossip'"),
        (["x", "--webhook", "https://a.example/", "--tenant", "nobody"], "", "no tenant"),
    ],
)
def test_a_target_that_cannot_be_is_refused_in_words(stack: Stack, words: list[str], stdin: str, message: str) -> None:
    done = here(stack, "alerts", "targets", "add", *words, stdin=stdin)
    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert "canary" not in done.stderr
    assert all(row.name != "x" for row in stack.site.directory.list_alert_targets())


def test_a_control_killed_between_sending_and_marking_loses_nothing(own_stack: Stack, target: Target) -> None:
    directory = own_stack.site.directory
    own_stack.tenant("killed")
    directory.set_alert_target("ops", "webhook", target.url)
    directory.set_budgets("killed", {"month": 1}, mode="soft")
    directory.set_thresholds("killed", [100])
    own_stack.start("sandbox", "gateway", "control")
    key = directory.issue_key("killed", "k").text
    wait_for(lambda: own_stack.get(key, "/v1/models")[0] == 200, what="the key")
    target.answers.clear()
    assert own_stack.message(key)[0] == 200
    wait_for(lambda: target.got, what="the first sending")
    own_stack.kill("control")
    target.answers.set()
    with own_stack.site.engine.begin() as connection:
        statuses = list(connection.execute(select(alert_deliveries.c.status)).scalars())
        assert statuses == ["waiting"]
        connection.execute(update(alert_deliveries).values(leased_until_us=0))  # a minute later
    own_stack.start("control")
    wait_for(lambda: len(target.got) == 2, what="the second sending")
    assert len(set(target.ids)) == 1

    def is_marked() -> bool:
        with own_stack.site.engine.connect() as connection:
            return list(connection.execute(select(alert_deliveries.c.status)).scalars()) == ["sent"]

    wait_for(is_marked, what="the mark, after which none is sent again")
    assert len(target.got) == 2
    assert len(raised(own_stack, "killed")) == 1
