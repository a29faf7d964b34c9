"""What `deploy/` has for Prometheus and Grafana asks for metrics that there are, in a way that these programs read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.control.metrics import Metrics
from tenantry.control.site import open_site
from tenantry.ledger.metering import Booked
from tenantry.settings import load_settings
from tests.template import init_from_template

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/prometheus-rules.yml").read_text())["groups"][0]["rules"]
PAGE = (ROOT / "docs/observability.md").read_text()
EXPRESSIONS = [
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]),
    *(one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"),
    *(rule["expr"] for rule in RULES),
]
PROMTOOL = shutil.which("promtool")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    settings = load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path_factory.mktemp("site") / "data")})
    init_from_template(settings)
    site = open_site(settings)
    try:
        return Metrics(site.engine, settings.journal_dir, Booked(1)).page().decode()
    finally:
        site.engine.dispose()


def families(page: str) -> dict[str, str]:
    return dict(re.findall(r"# TYPE (\S+) (\S+)", page))


def test_every_metric_that_is_asked_for_is_one_and_each_has_a_place(page: str) -> None:
    known = families(page)
    asked = {name for expression in EXPRESSIONS for name in re.findall(r"tenantry_\w+", expression)}
    for name in asked:
        family = re.sub(r"_bucket$", "", name)
        assert family in known, name
        assert (known[family] == "histogram") == name.endswith("_bucket"), name
    shown = {re.sub(r"_bucket$", "", name) for name in asked}
    assert set(known) - shown == {"tenantry_journal_lag_bytes"}


def test_rates_are_of_counters_and_quantiles_of_buckets(page: str) -> None:
    known = families(page)
    for expression in EXPRESSIONS:
        for name in re.findall(r"(?:rate|increase)\((tenantry_\w+)", expression):
            assert known[re.sub(r"_bucket$", "", name)] in ("counter", "histogram"), expression
        assert ("histogram_quantile" in expression) == ("_bucket" in expression), expression
        assert expression.count("(") == expression.count(")"), expression


def test_every_metric_is_documented(page: str) -> None:
    for name, kind in families(page).items():
        assert re.search(rf"^\| `{name}(?:\{{[a-z, ]+\}})?` \| {kind} \|", PAGE, re.MULTILINE), name
    for rule in RULES:
        assert f"`{rule['alert']}`" in PAGE, rule["alert"]


def test_panels_have_names_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_each_alert_says_what_to_do() -> None:
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian's package prometheus) is not here")
def test_prometheus_itself_reads_rules_page_and_configuration(page: str) -> None:
    assert PROMTOOL is not None
    for words, told in (
        (["check", "rules", str(ROOT / "deploy/prometheus-rules.yml")], ""),
        (["check", "config", "--syntax-only", str(ROOT / "deploy/prometheus.yml")], ""),
        (["check", "metrics"], page),
    ):
        done = subprocess.run([PROMTOOL, *words], input=told, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
