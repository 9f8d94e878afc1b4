"""The container files against the code: no engine is needed, and none of it is taken on trust.

Every command in the compose file goes through the real parsers and settings; only what would then
start is caught. Ports, paths, models and profiles must agree between services.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub.constants
import pytest

from foundation.settings import load_settings
from loop.config import Recipe, is_local
from medpref.cli import COMMANDS
from medpref.commands import align, keys, train
from policy.config import HOST, PolicyServerConfig
from policy.server import EXIT_SECONDS
from reward_server.access import Keyring, check_binding, scope_of
from reward_server.config import RewardServerConfig
from reward_server.keyfile import Key, Scope, read_keys
from reward_server.routes import router
from tests.docker.reading import (
    COMPOSE,
    DEVICES,
    DOCKERFILES,
    ROOT,
    VARIABLE,
    Image,
    load_compose,
    read_image,
)

CONTENT = load_compose()
SERVICES: dict[str, dict[str, Any]] = CONTENT["services"]
ALIGNMENTS = {"quickstart": "recipes/quickstart.toml", "llama-8b": "recipes/llama-8b.toml"}
KEYS = {"quickstart": "reward-key", "llama-8b": "reward-key-gpu"}
"""Who makes the key of a run."""

SECRET = "mp_the-key-of-this-run"
SECONDS = {"s": 1, "m": 60, "h": 3600}

READ_BY = {
    "HF_HOME": huggingface_hub.constants,
    "HF_HUB_OFFLINE": huggingface_hub.constants,
    "HF_TOKEN_PATH": huggingface_hub.constants,
    "PATH": "the shell",
    "PYTHONUNBUFFERED": "Python",
    "TORCH_COMPILE_DISABLE": "torch._dynamo.config",
}
"""Every environment variable that a container gets, and who reads it."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """What ``medpref align`` would have played."""

    recipe: Recipe
    run_dir: Path
    resume: bool


@dataclass(frozen=True, slots=True)
class Training:
    """What ``medpref train`` would have trained."""

    recipe: Recipe
    base: str | None
    output: Path


@dataclass(frozen=True, slots=True)
class MadeKey:
    """The key that ``medpref keys add`` would have made."""

    file: Path
    name: str
    scopes: tuple[Scope, ...]


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the commands would have started, instead of starting it."""
    started: list[object] = []

    def server(config: object, **_: object) -> int:
        started.append(config)
        return 0

    def run(recipe: Recipe, run_dir: Path, *, resume: bool) -> int:
        started.append(Alignment(recipe, run_dir, resume))
        return 0

    def stage(recipe: Recipe, options: argparse.Namespace, _: object) -> dict[str, Any]:
        started.append(Training(recipe, options.base, options.output))
        return {}

    def key(path: Path, made: Key) -> None:
        started.append(MadeKey(path, made.name, made.scopes))

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("policy.__main__.serve", server)
    monkeypatch.setitem(sys.modules, "reward_server.server", SimpleNamespace(serve=server))
    monkeypatch.setattr(align, "run", run)
    monkeypatch.setattr(keys, "add_key", key)
    monkeypatch.setattr(train, "check_model", lambda model, field: None)
    for name in train.STAGES:
        monkeypatch.setitem(train.STAGES, name, stage)
    return started


def started_by(service: str, caught: list[object], home: Path) -> Any:
    """What the real ``medpref`` would have started on the command of the service."""
    program, command, *arguments = command_of(service, home)
    assert program == "medpref"
    assert command in COMMANDS
    assert import_module(f"medpref.commands.{command}").main(arguments) == 0
    return caught.pop()


def command_of(service: str, home: Path) -> list[str]:
    """Program and arguments; a shell script is run with ``home`` as its root to see what it calls.

    Empty if it calls nothing; what it calls last, if it calls more. A run finds its key there.
    """
    settings = SERVICES[service]
    if "entrypoint" not in settings:
        return [*image_of(service).entrypoint, *settings["command"]]
    called = home / "called"
    called.write_text("")
    (home / "keys").mkdir(exist_ok=True)
    if service in ALIGNMENTS:
        (home / "keys" / f"{service}.key").write_text(f"{SECRET}\n")
    run_script(service, home, f'printf "%s\\n" medpref "$@" > {called}; env > {called}.env')
    return called.read_text().splitlines()


def run_script(service: str, home: Path, medpref: str) -> None:
    """Runs the shell script of a service with ``home`` as its root.

    Args:
        service: whose script.
        home: where its folders are.
        medpref: what the shell does in place of the program of that name.
    """
    program = home / "bin" / "medpref"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{medpref}\n")
    program.chmod(0o755)
    script, *words = SERVICES[service]["command"]
    rooted = re.sub(r"(?<=test -[df] )/|(?<= )/(?=keys/)", f"{home}/", script)
    path = f"{program.parent}:{os.environ['PATH']}"
    command = [*SERVICES[service]["entrypoint"], rooted, *words]
    subprocess.run(command, check=True, env={"PATH": path}, cwd=ROOT)


def image_of(service: str) -> Image:
    build = SERVICES[service]["build"]
    return read_image(ROOT / build["dockerfile"], build.get("args", {}).get("DEVICE", "cpu"))


def mounts(service: str) -> dict[str, str]:
    """Path in the container → volume or file."""
    return dict(map(_mount, SERVICES[service]["volumes"]))


def _mount(volume: str | Mapping[str, Any]) -> tuple[str, str]:
    if isinstance(volume, str):
        source, target = volume.split(":")[:2]
        return target, source
    return volume["target"], volume["source"]


def seconds(duration: str) -> int:
    return int(duration[:-1]) * SECONDS[duration[-1]]


def namespace_of(service: str) -> str:
    """The service whose loopback interface this one sees."""
    return str(SERVICES[service].get("network_mode", f"service:{service}")).removeprefix("service:")


@pytest.mark.parametrize("name", SERVICES)
def test_every_command_is_one_that_medpref_understands(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    assert started_by(name, caught, tmp_path)


@pytest.mark.parametrize(("name", "recipe"), ALIGNMENTS.items())
def test_a_run_finds_the_models_that_its_servers_serve(
    name: str, recipe: str, caught: list[object], tmp_path: Path
) -> None:
    run = started_by(name, caught, tmp_path)
    policy = started_by(namespace_of(name), caught, tmp_path)
    reward_host = urlsplit(run.recipe.reward.url).hostname
    reward = started_by(reward_host, caught, tmp_path)
    assert run.recipe.name == load_settings(Recipe, ROOT / recipe).name
    assert run.recipe.policy.model == policy.model
    assert (run.recipe.reward.served_name, run.recipe.reward.dtype) == (reward.name, reward.dtype)
    assert run.recipe.reward.model in {None, reward.model}


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_the_policy_server_runs_as_the_recipe_says(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    engine = started_by(name, caught, tmp_path).recipe.policy.engine
    policy = started_by(namespace_of(name), caught, tmp_path)
    wished = {field: getattr(engine, field) for field in engine.model_fields_set}
    assert {field: getattr(policy, field) for field in wished} == wished


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_a_run_reaches_the_policy_server_through_its_loopback(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    url = urlsplit(started_by(name, caught, tmp_path).recipe.policy.url)
    policy = started_by(namespace_of(name), caught, tmp_path)
    assert isinstance(policy, PolicyServerConfig)
    assert (url.hostname, url.port) == (HOST, policy.port)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_adapters_lie_at_the_same_path_for_run_and_policy_server(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    run = started_by(name, caught, tmp_path)
    folder = f"/{run.run_dir.parts[1]}"
    assert mounts(name)[folder] == mounts(namespace_of(name))[folder]


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_a_run_reaches_the_reward_server_by_its_name_and_port(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    url = urlsplit(started_by(name, caught, tmp_path).recipe.reward.url)
    reward = started_by(url.hostname, caught, tmp_path)
    assert isinstance(reward, RewardServerConfig)
    assert (reward.host, reward.port) == ("0.0.0.0", url.port)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_the_reward_server_lets_nobody_in_without_a_key_but_probes(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    host = urlsplit(started_by(name, caught, tmp_path).recipe.reward.url).hostname
    reward = started_by(host, caught, tmp_path)
    check_binding(reward.host, has_keys=reward.keys is not None)
    assert scope_of("GET", urlsplit(image_of(host).health_url or "").path) is None


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_a_run_shows_the_reward_server_the_key_that_was_made_for_it(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    made = started_by(KEYS[name], caught, tmp_path)
    assert (made.name, made.scopes) == (name, ("score",))
    settings = started_by(name, caught, tmp_path).recipe.reward
    given = (tmp_path / "called.env").read_text().splitlines()
    assert f"{settings.api_key_env}={SECRET}" in given
    server = urlsplit(settings.url).hostname
    assert started_by(server, caught, tmp_path).keys == Path("/", made.file.relative_to(tmp_path))
    assert SERVICES[server]["depends_on"][KEYS[name]] == {
        "condition": "service_completed_successfully"
    }


def test_keys_lie_in_a_volume_that_only_their_makers_write_and_no_policy_server_sees() -> None:
    with_keys = {name: SERVICES[name]["volumes"] for name in SERVICES if "/keys" in mounts(name)}
    writing = {name for name, volumes in with_keys.items() if "keys:/keys" in volumes}
    reading = {name for name, volumes in with_keys.items() if "keys:/keys:ro" in volumes}
    assert writing == set(KEYS.values())
    assert reading == {*ALIGNMENTS, "reward-server", "reward-server-gpu"}
    assert with_keys.keys() == writing | reading


@pytest.mark.parametrize(("run", "maker"), KEYS.items())
def test_a_key_is_made_once_and_anew_when_its_secret_is_lost(
    run: str, maker: str, tmp_path: Path
) -> None:
    (tmp_path / "keys").mkdir()
    key_file, secret_file = tmp_path / "keys/keys.json", tmp_path / f"keys/{run}.key"

    def make() -> str:
        run_script(maker, tmp_path, f'exec {sys.executable} -m medpref "$@"')
        assert [file.stat().st_mode & 0o777 for file in (key_file, secret_file)] == [0o600, 0o600]
        secret = secret_file.read_text().strip()
        assert Keyring.load(key_file).identify(secret).name == run
        return secret

    first = make()
    assert make() == first
    secret_file.unlink()
    assert make() != first
    assert len(read_keys(key_file)) == 1


@pytest.mark.parametrize("name", ["reward-server", "reward-server-gpu"])
def test_only_a_model_from_the_hub_goes_without_its_commit(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    reward = started_by(name, caught, tmp_path)
    is_pinned = is_local(reward.model) or reward.revision is not None
    assert reward.allow_floating_revision != is_pinned


def test_what_is_given_as_a_path_is_mounted(caught: list[object], tmp_path: Path) -> None:
    for name in SERVICES:
        command = " ".join([*SERVICES[name]["command"], *command_of(name, tmp_path)])
        for path in re.findall(r"(?<![\w.:/])/(?:models|runs|data|keys)\b", command):
            assert any(target.startswith(path) for target in mounts(name)), (name, path)


def test_models_are_trained_where_the_servers_look_for_them(
    caught: list[object], tmp_path: Path
) -> None:
    base = started_by("base-model", caught, tmp_path)
    reward = started_by("reward-model", caught, tmp_path)
    assert base.output == Path(started_by("policy-server", caught, tmp_path).model)
    assert reward.output == Path(started_by("reward-server", caught, tmp_path).model)
    assert Path(reward.base) == base.output
    played = started_by("quickstart", caught, tmp_path).recipe
    for trained in (base.recipe, reward.recipe):
        assert (
            trained.model_copy(update={"policy": played.policy, "reward": played.reward}) == played
        )


@pytest.mark.parametrize("model", ["base", "reward"])
def test_a_model_that_is_there_is_not_trained_again(model: str, tmp_path: Path) -> None:
    (tmp_path / "models" / model).mkdir(parents=True)
    assert command_of(f"{model}-model", tmp_path) == []


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_a_run_that_is_there_is_resumed(name: str, caught: list[object], tmp_path: Path) -> None:
    run = started_by(name, caught, tmp_path)
    assert not run.resume
    folder = tmp_path / run.run_dir.relative_to("/")
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    assert started_by(name, caught, tmp_path) == Alignment(run.recipe, run.run_dir, resume=True)


@pytest.mark.parametrize("name", [name for name in SERVICES if image_of(name).health_url])
def test_health_is_asked_where_the_server_answers(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    config = started_by(name, caught, tmp_path)
    url = urlsplit(image_of(name).health_url or "")
    assert (url.hostname, url.port) == ("127.0.0.1", config.port)
    assert url.path in health_paths(config)


def health_paths(config: object) -> set[str]:
    """The GET routes of a server's health; vLLM's are read from its source, not imported."""
    if isinstance(config, RewardServerConfig):
        return {route.path for route in router.routes if route.path.startswith("/health")}  # type: ignore[attr-defined]  # all of them are API routes
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "entrypoints/serve/instrumentator/health.py"
    return set(re.findall(r'@router\.get\("(/[a-z]+)"', source.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", [name for name in SERVICES if "ports" in SERVICES[name]])
def test_ports_are_published_to_this_machine_only(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    port = started_by(name, caught, tmp_path).port
    for published in SERVICES[name]["ports"]:
        address, _, container = published.split(":")
        assert (address, container) == ("127.0.0.1", str(port))
    assert image_of(name).last("EXPOSE") == str(port)


def test_no_two_services_publish_the_same_port() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_the_policy_server_publishes_nothing() -> None:
    for name in map(namespace_of, ALIGNMENTS):
        assert "ports" not in SERVICES[name]
        assert not image_of(name).all("EXPOSE")


@pytest.mark.parametrize("name", [name for name in SERVICES if image_of(name).health_url])
def test_a_server_may_drain_before_it_is_killed(
    name: str, caught: list[object], tmp_path: Path
) -> None:
    config = started_by(name, caught, tmp_path)
    needed = config.drain_seconds
    if isinstance(config, PolicyServerConfig):
        needed += EXIT_SECONDS
        patience = SERVICES[name].get("healthcheck", {"start_period": "10m"})["start_period"]
        assert seconds(patience) >= config.ready_timeout_seconds
    assert seconds(SERVICES[name]["stop_grace_period"]) > needed


@pytest.mark.parametrize("name", SERVICES)
def test_services_depend_on_services_of_their_own_profile(name: str) -> None:
    wanted = {**SERVICES[name].get("depends_on", {})}
    if namespace_of(name) != name:
        assert wanted[namespace_of(name)]["condition"] == "service_healthy"
    for other, terms in wanted.items():
        assert SERVICES[other].get("profiles") == SERVICES[name].get("profiles")
        if terms["condition"] == "service_healthy":
            assert image_of(other).health_url
        else:
            assert terms["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no"


def test_the_only_profile_is_the_gpus_and_its_images_are_built_for_them() -> None:
    for name, service in SERVICES.items():
        device = service["build"].get("args", {}).get("DEVICE", "cpu")
        assert service.get("profiles", ["cpu"]) == [device]
        assert service["image"] == f"medpref-{Path(service['build']['dockerfile']).stem}:{device}"
        reserved = service["deploy"]["resources"]["reservations"]
        needs_device = device == "gpu" and name not in KEYS.values()
        assert ("devices" in reserved) == needs_device, name


def test_no_variable_is_needed_for_the_file_to_load() -> None:
    found = VARIABLE.findall(COMPOSE.read_text(encoding="utf-8"))
    assert all(dollar or default for dollar, _, default in found)
    ids = {"REWARD_GPU": "4", "POLICY_GPU": "5", "TRAINER_GPU": "6"}
    services = load_compose(ids)["services"]
    devices = [s["deploy"]["resources"]["reservations"].get("devices") for s in services.values()]
    assert [device[0]["device_ids"] for device in devices if device] == [["4"], ["5"], ["6"]]


@pytest.mark.parametrize("name", SERVICES)
def test_every_environment_variable_is_read_by_somebody(name: str) -> None:
    given = {**image_of(name).variables, **SERVICES[name]["environment"]}
    for variable in given:
        reader = READ_BY[variable]
        assert isinstance(reader, str) or hasattr(reader, variable)


def test_the_hub_token_is_a_secret_of_the_gpu_services_alone() -> None:
    assert CONTENT["secrets"] == {"hf_token": {"environment": "HF_TOKEN"}}
    for name, service in SERVICES.items():
        offline = "profiles" not in service or name in KEYS.values()
        assert service.get("secrets", []) == ([] if offline else ["hf_token"])
        expected = {"HF_HUB_OFFLINE"} if offline else {"HF_HOME", "HF_TOKEN_PATH"}
        assert set(service["environment"]) == expected
        if not offline:
            assert service["environment"]["HF_TOKEN_PATH"] == "/run/secrets/hf_token"


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_are_declared_and_belong_to_the_user_of_the_image(name: str) -> None:
    owned = image_of(name).all("RUN")
    for target, source in mounts(name).items():
        if "/" not in source:
            assert source in CONTENT["volumes"]
            assert any(re.search(rf"install .*--owner=medpref .*{target}\b", r.rest) for r in owned)


@pytest.mark.parametrize("name", SERVICES)
def test_services_run_with_as_little_as_they_need(name: str) -> None:
    service = SERVICES[name]
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "user", "cap_add", "pid"} & service.keys()
    assert (ROOT / service["build"]["context"]).samefile(ROOT)


def test_every_dockerfile_is_used_on_both_devices() -> None:
    built = {(ROOT / s["build"]["dockerfile"], s["image"].split(":")[1]) for s in SERVICES.values()}
    assert built == {(path, device) for path in DOCKERFILES for device in DEVICES}
