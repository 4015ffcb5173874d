"""What deploy/ starts things with: valid by its schema, and in step with the server's settings."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.expressions import DEPLOY
from sottovoce_server.settings import ServerSettings

KUBERNETES_VERSION = "1.34"
COMPOSE_SCHEMA = "compose/config/compose_spec.json"  # of the PyPI package docker-compose
MANIFESTS = sorted(p for p in (DEPLOY / "kubernetes").glob("*.yaml") if p.stem != "kustomization")
UNIT = DEPLOY / "systemd" / "sottovoce.service"
STOP_S = ServerSettings().drain_timeout_s + 10  # and vLLM's processes, as cli.py adds it


def documents(path: Path) -> list[Any]:
    """A file's YAML documents."""
    return list(yaml.safe_load_all(path.read_text()))


def objects() -> list[Any]:
    """Every Kubernetes object."""
    return [found for path in MANIFESTS for found in documents(path)]


def the(kind: str, name: str) -> Any:
    """One of them."""
    (found,) = [o for o in objects() if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_kubernetes_objects_are_valid(path: Path) -> None:
    for found in documents(path):
        kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)


def test_kustomization_names_every_file() -> None:
    (listed,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    assert sorted(listed["resources"]) == [path.name for path in MANIFESTS]


def test_selectors_find_their_pods() -> None:
    """Services, budgets and deployments by labels, the autoscaler by name, the router by its flag."""
    for kind, name in (("Deployment", "sottovoce"), ("Deployment", "sottovoce-router")):
        labels = the(kind, name)["spec"]["template"]["metadata"]["labels"]
        assert the(kind, name)["spec"]["selector"]["matchLabels"] == labels
        assert the("Service", name)["spec"]["selector"] == labels
    budget = the("PodDisruptionBudget", "sottovoce")["spec"]["selector"]["matchLabels"]
    assert budget == {"app": "sottovoce"}
    target = the("HorizontalPodAutoscaler", "sottovoce")["spec"]["scaleTargetRef"]
    assert the(target["kind"], target["name"])["apiVersion"] == target["apiVersion"]
    (router,) = the("Deployment", "sottovoce-router")["spec"]["template"]["spec"]["containers"]
    assert "--selector=app=sottovoce" in router["args"]


def test_pods_are_given_the_time_to_drain() -> None:
    spec = the("Deployment", "sottovoce")["spec"]["template"]["spec"]
    (server,) = spec["containers"]
    *_, slept = server["lifecycle"]["preStop"]["exec"]["command"]
    assert spec["terminationGracePeriodSeconds"] >= int(slept) + STOP_S
    assert server["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/health"


def our_flags(words: list[str]) -> set[str]:
    """The flags among the words of a command line."""
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def validate_compose(compose: Any) -> None:
    """Fail with what the Compose Specification's schema forbids."""
    package = distribution("docker-compose")  # its own requirements are old: not to be imported
    schema = json.loads(Path(str(package.locate_file(COMPOSE_SCHEMA))).read_text())
    jsonschema.Draft201909Validator(schema).validate(compose)


def test_compose_is_valid() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    validate_compose(compose)
    server = compose["services"]["server"]
    assert int(server["stop_grace_period"].removesuffix("s")) >= STOP_S
    mounted = [v for s in compose["services"].values() for v in s.get("volumes", [])]
    local = [v.split(":")[0] for v in mounted if v.startswith("./")]
    assert [path for path in local if not (DEPLOY / path).exists()] == []
    named = {v.split(":")[0] for v in mounted if not v.startswith(".")}
    assert named == set(compose["volumes"])


def test_compose_is_checked_by_a_strict_schema() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    compose["services"]["server"]["prots"] = compose["services"]["server"].pop("ports")
    with pytest.raises(jsonschema.ValidationError, match="prots"):
        validate_compose(compose)


def test_grafana_finds_dashboards_and_prometheus() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    volumes = compose["services"]["grafana"]["volumes"]
    targets = {volume.split(":")[0]: volume.split(":")[1] for volume in volumes}
    provisioning = DEPLOY / "grafana" / "provisioning"
    (provider,) = documents(provisioning / "dashboards" / "sottovoce.yaml")
    assert provider["providers"][0]["options"]["path"] == targets["./grafana/dashboards"]
    (source,) = documents(provisioning / "datasources" / "prometheus.yaml")
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    (scraped,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    (job,) = scraped["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["server:8000"]}]
    assert {"server", "prometheus"} < compose["services"].keys()


def test_flags_of_ours_exist() -> None:
    """In every command line that is deployed; vLLM checks its own."""
    (compose,) = documents(DEPLOY / "compose.yaml")
    words = [*compose["services"]["server"]["command"]]
    words += shlex.split(the("ConfigMap", "sottovoce")["data"]["FLAGS"])
    ours = {"--" + name.replace("_", "-") for name in ServerSettings.__dataclass_fields__}
    theirs = {"--host", "--port", "--reasoning-parser", "--max-model-len", "--max-num-seqs"}
    assert our_flags(words) - ours - theirs == set()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_unit_is_valid(tmp_path: Path) -> None:
    """With a program that is here in place of the installed one."""
    text = UNIT.read_text()
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/sottovoce/.venv/bin/sottovoce", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_unit_is_given_the_time_to_drain() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) >= STOP_S
    assert "KillMode=mixed" in UNIT.read_text()
