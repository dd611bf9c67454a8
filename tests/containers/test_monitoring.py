"""Dashboards and alert rules ask for what the service tells, and a real Prometheus answers them."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from infra.metric_families import FAMILIES
from infra.model_files import ROOT
from tests.containers.monitored import MONITORING, Monitored, metrics_in, monitored, queries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RULES = [rule for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
OF_PROMETHEUS = {"up"}
OF_REAL_ENGINES = {
    "service: Key-value cache", "service: First token by the engine's clock",
    "cold-starts-and-cost: Where a boot's time goes", "cold-starts-and-cost: How much of their time engines work",
}  # fmt: skip
"""Panels of what engines' containers tell, which the scripted engine as a process of this machine does not."""


def series() -> set[str]:
    """The names under which the service's metrics are scraped."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
    return {family.name + suffix for family in FAMILIES for suffix in suffixes[family.kind]}


def test_dashboards_and_rules_ask_for_metrics_that_there_are() -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    for where, expression in {**queries(), **{str(rule): rule["expr"] for rule in RULES}}.items():
        asked = metrics_in(expression)
        assert asked, where
        assert asked <= series() | recorded | OF_PROMETHEUS, (where, asked - series())


def test_labels_that_are_asked_for_are_those_of_the_metric() -> None:
    labels = {family.name: {*family.labels, "job", "le"} for family in FAMILIES}
    for where, expression in {**queries(), **{str(rule): rule["expr"] for rule in RULES}}.items():
        for name, chosen in re.findall(r"([a-z0-9_]+)\{([^}]*)\}", expression):
            known = labels.get(name) or labels.get(re.sub(r"_(bucket|sum|count)$", "", name)) or {"job"}
            assert set(re.findall(r"(\w+)\s*(?:=|!)", chosen)) <= known, (where, name)


def test_each_alert_has_a_section_that_says_what_to_do_and_a_test_that_it_fires() -> None:
    told = (ROOT / "docs/operations.md").read_text()
    tests = yaml.safe_load((MONITORING / "rules.test.yml").read_text())["tests"]
    fired = {rule["alertname"] for test in tests for rule in test["alert_rule_test"] if rule["exp_alerts"]}
    names = [rule["alert"] for rule in ALERTS]
    assert set(names) == fired
    assert re.findall(r"^### (Llm\w+)$", told, re.MULTILINE) == names
    for rule in ALERTS:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_the_panels_that_operators_are_sent_to_are_there() -> None:
    told = " ".join((ROOT / "docs/operations.md").read_text().split())
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", told))
    boards = [json.loads(file.read_text()) for file in (MONITORING / "grafana/dashboards").glob("*.json")]
    assert len(named) > 5
    assert named <= {panel["title"] for board in boards for panel in board["panels"]}


def test_the_dashboards_are_ones_that_grafana_provisions() -> None:
    uids = set()
    for file in (MONITORING / "grafana/dashboards").glob("*.json"):
        board = json.loads(file.read_text())
        uids.add(board["uid"])
        places = [panel["gridPos"] for panel in board["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        sources = {target["datasource"]["uid"] for panel in board["panels"] for target in panel.get("targets", ())}
        assert sources == {"prometheus"}
    assert uids == {"llm-service", "llm-cold-starts-and-cost"}
    source = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert source["datasources"][0]["uid"] == "prometheus"


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian's package prometheus has it)")


@pytest.mark.slow
def test_each_alert_fires_when_it_should_and_not_otherwise() -> None:
    needs("promtool")
    done = subprocess.run(
        ["promtool", "test", "rules", MONITORING / "rules.test.yml"], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    needs("prometheus")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    with monitored(folder) as running:
        yield running


@pytest.mark.slow
def test_every_query_of_the_dashboards_has_data_of_a_service_under_load(both: Monitored) -> None:
    empty = {where.rpartition(":")[0] for where, query in queries().items() if not known(both.values(query))}
    assert empty <= OF_REAL_ENGINES


@pytest.mark.slow
def test_every_rule_is_evaluated_and_asks_for_what_is_there(both: Monitored) -> None:
    for rule in RULES:
        both.values(rule["expr"])
        for name in metrics_in(rule["expr"]):
            assert known(both.values(name)), (rule, name)


def known(values: list[float]) -> bool:
    return any(not math.isnan(value) for value in values)
