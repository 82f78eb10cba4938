"""The deployment files: checked by the programs that will read them where those are here, and against the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from registry.settings import HubSettings
from registry.vault import KeyEncryptionKey
from routing import metrics

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose"
UNITS = [*sorted((DEPLOY / "onprem" / "systemd").glob("*.service")), DEPLOY / "single-node" / "hub.service"]
PROMETHEUS = DEPLOY / "monitoring" / "prometheus"
SETTINGS = {f"HUB_{name.upper()}" for name in HubSettings.model_fields} | {"HUB_SETTINGS_FILE"}
_METRIC = re.compile(r"\bhub_[a-z_]+")
_LABELS = re.compile(r"(?:by|without) \(([^)]*)\)|label_values\(\w+, (\w+)\)|\{(\w+)=~?")


def run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_every_service_has_a_health_check_a_restart_policy_and_bounded_logs() -> None:
    services = compose()["services"]
    assert set(services) == {"postgres", "rabbitmq", "upgrade", "api", "relay", "worker"}
    for name, service in services.items():
        assert service["restart"] in {"unless-stopped", "no"}, name
        assert service["logging"]["options"]["max-size"], name
        assert "no-new-privileges:true" in service["security_opt"], name
    assert services["postgres"]["healthcheck"]["test"][0] == "CMD"
    assert services["rabbitmq"]["healthcheck"]["test"][0] == "CMD"
    for name in ("api", "relay", "worker"):
        waits = services[name]["depends_on"]
        assert waits["upgrade"] == {"condition": "service_completed_successfully"}
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]


def test_images_are_those_the_hub_is_tested_with() -> None:
    services = compose()["services"]
    assert services["postgres"]["image"] == "postgres:16"
    assert services["rabbitmq"]["image"] == "rabbitmq:4-management"


def test_no_password_stands_in_the_files_and_every_secret_is_a_file() -> None:
    loaded = compose()
    for name, service in loaded["services"].items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASS|SECRET|TOKEN|KEY", key):
                assert str(value).startswith("/run/secrets/"), f"{name} {key}"
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in loaded["secrets"]
    assert all(list(secret) == ["file"] for secret in loaded["secrets"].values())
    assert "PASS" not in (COMPOSE / ".env.example").read_text()
    assert {"secrets/", ".env"} <= set((COMPOSE / ".gitignore").read_text().split())


def test_only_the_api_is_reachable_and_only_on_loopback() -> None:
    loaded = compose()
    with_ports = {
        name: service["ports"] for name, service in loaded["services"].items() if "ports" in service
    }
    assert list(with_ports) == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in with_ports["api"])
    assert loaded["networks"]["inside"] == {"internal": True}
    assert (
        loaded["services"]["postgres"]["networks"] == loaded["services"]["rabbitmq"]["networks"] == ["inside"]
    )


def test_every_variable_given_to_the_hub_is_a_setting() -> None:
    used = {
        key
        for service in compose()["services"].values()
        for key in service.get("environment", {})
        if key[:4] == "HUB_"
    }
    for unit in UNITS:
        used |= set(re.findall(r"^Environment=(HUB_\w+)=", unit.read_text(), re.M))
    used |= set(re.findall(r"\b(HUB_[A-Z_]+)=/", (DEPLOY / "Dockerfile").read_text()))
    assert used <= SETTINGS


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("docker compose is not installed")
    run(
        docker, "compose", "-f", str(COMPOSE / "compose.yaml"), "config", "--quiet",
        HUB_UID="1000", HUB_GID="1000", HUB_CONFIG=str(tmp_path), HUB_PUBLIC_URL="https://hub.example.org",
    )  # fmt: skip


def test_the_secrets_made_are_private_usable_and_never_made_again(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets.sh"
    shutil.copy(COMPOSE / "make-secrets.sh", script)
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    run("sh", str(script))
    made = {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}
    wanted = {Path(secret["file"]).name for secret in compose()["secrets"].values()}
    assert set(made) == wanted
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    for name in wanted - {"rabbitmq.conf"}:
        assert stat.S_IMODE((tmp_path / "secrets" / name).stat().st_mode) == 0o600, name
    assert KeyEncryptionKey.load(HubSettings(kek_file=tmp_path / "secrets" / "kek")).id
    assert made["signing_key.pem"].startswith(b"-----BEGIN PRIVATE KEY-----")
    run("sh", str(script))
    assert {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()} == made
    assert (tmp_path / ".env").read_text().count("HUB_UID=") == 1


def test_the_settings_file_made_is_one_the_hub_reads(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    shutil.copy(COMPOSE / "make-secrets.sh", tmp_path)
    run("sh", str(tmp_path / "make-secrets.sh"))
    import tomllib

    values = tomllib.loads((tmp_path / "secrets" / "hub.toml").read_text())
    settings = HubSettings(**values)
    assert settings.database_url is not None
    assert settings.broker_url is not None
    password = re.search(r"default_pass = (\w{48})", (tmp_path / "secrets" / "rabbitmq.conf").read_text())
    assert password is not None
    assert password[1] in settings.broker_url.get_secret_value()


def test_the_image_runs_as_nobody_special_from_hashed_packages_and_is_watched() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.M)
    assert stages == ["python:3.11-slim", "python:3.11-slim"]
    final = text[text.rindex("FROM ") :]
    assert re.search(r"^USER 10001:10001$", final, re.M)
    assert "/healthz/live" in final
    for line in re.findall(r"pip install .*", text):
        assert "--require-hashes" in line or "--no-index" in line
    for source in re.findall(r"^COPY (?!--from)(\S+) ", text, re.M):
        assert (ROOT / source).exists(), source
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert ignored[0] == "*"
    assert "deploy/compose/secrets" in ignored
    for kept in (line[1:] for line in ignored if line.startswith("!")):
        assert (ROOT / kept).exists(), kept


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_is_hardened_and_restarts(unit: Path) -> None:
    text = unit.read_text()
    for line in (
        "User=hub", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes",
        "CapabilityBoundingSet=", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native", "UMask=0077", "LimitCORE=0",
        "Restart=always", "StateDirectoryMode=0700",
    ):  # fmt: skip
        assert re.search(rf"^{re.escape(line)}$", text, re.M), line
    assert not re.search("PASSWORD|SECRET|TOKEN", text)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / unit.name.replace("@.", "@one.")
    # The program is not installed on the machine that tests; everything else in the unit is as shipped.
    copy.write_text(unit.read_text().replace("/opt/hub/bin/hub", shutil.which("true") or "/bin/true"))
    done = subprocess.run(
        [program, "verify", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [
        line for line in done.stderr.splitlines() if unit.name.partition(".")[0].rstrip("@") in line
    ]
    assert not complaints


def test_promtool_accepts_the_alerts_and_their_tests() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    run(promtool, "check", "rules", "alerts.yaml", cwd=PROMETHEUS)
    run(promtool, "check", "config", "--syntax-only", "prometheus.yaml", cwd=PROMETHEUS)
    run(promtool, "test", "rules", "alerts_test.yaml", cwd=PROMETHEUS)


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    rules = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"][0]["rules"]
    tests = (PROMETHEUS / "alerts_test.yaml").read_text()
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        # Once where it must stay quiet, once where it must speak.
        assert tests.count(rule["alert"]) >= 2, rule["alert"]


def known() -> dict[str, set[str]]:
    """Return every series name the hub exposes with its label names."""
    found: dict[str, set[str]] = {}
    for value in vars(metrics).values():
        metric = getattr(value, "metric", value)
        if isinstance(metric, Counter | Gauge | Histogram):
            for described in metric.describe():
                ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
                    described.type, ("",)
                )
                for end in ends:
                    found[described.name + end] = set(metric._labelnames)
    return found


def expressions() -> list[tuple[str, str]]:
    board = json.loads((DEPLOY / "monitoring" / "grafana" / "hub.json").read_text())
    shown = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel["targets"]]
    shown += [
        (item["name"], item["query"]["query"])
        for item in board["templating"]["list"]
        if item["type"] == "query"
    ]
    rules = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"][0]["rules"]
    return shown + [(rule["alert"], rule["expr"]) for rule in rules]


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_every_figure_shown_is_one_the_hub_gives(title: str, expression: str) -> None:
    exposed = known()
    names = set(_METRIC.findall(expression))
    assert names <= exposed.keys(), title
    labels = {"le", "job", "instance"}.union(*(exposed[name] for name in names))
    for groups in _LABELS.findall(expression):
        assert {part.strip() for group in groups for part in group.split(",") if part.strip()} <= labels, (
            title
        )


def test_the_dashboard_has_no_doubled_panel_and_none_overlaps() -> None:
    board = json.loads((DEPLOY / "monitoring" / "grafana" / "hub.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
