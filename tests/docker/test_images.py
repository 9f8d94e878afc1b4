"""The Dockerfiles against the repository: pinned, small, without root, and with all that is needed.

No image is built. What an image leaves out of the lock is left out of an environment here, in which
its service must still import.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import distribution
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from foundation.process import ChildProcess, free_port
from medpref.commands import keys
from reward_server.client import ClientOptions, RewardClient
from reward_server.errors import Unauthorized
from tests.docker.reading import DEVICES, DOCKERFILES, ROOT, Image, reaches_build, read_image
from tests.reward_server.tiny import group, make_tokenizer, save_model

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements" / "cpu.lock").read_text(encoding="utf-8").split()
IMAGES = {
    (path.stem, device): read_image(path, device) for path in DOCKERFILES for device in DEVICES
}
ON_CPU = {name: image for (name, device), image in IMAGES.items() if device == "cpu"}

SERVED_BY = {
    "loop": "medpref.commands.align, medpref.commands.train, medpref.commands.keys,"
    " reward_server.server, reward_server.app, reward_server.engine.build,"
    " vllm.entrypoints.openai.api_server",
    "policy-server": "medpref.commands.serve, vllm.entrypoints.openai.api_server",
    "reward-server": "medpref.commands.serve, medpref.commands.keys,"
    " reward_server.server, reward_server.app, reward_server.engine.build,"
    " reward_server.scorers.implicit, reward_server.scorers.multi_objective,"
    " reward_server.scorers.pairwise, reward_server.scorers.sequence_classification",
}
"""The modules that a container loads on its way to serve or to work, the late ones too."""

every_image = pytest.mark.parametrize("image", IMAGES.values(), ids=map(":".join, IMAGES))


def code_step(image: Image) -> int:
    """Where the project itself is installed."""
    (step,) = (i for i, step in enumerate(image.instructions) if step.rest.endswith(" /src"))
    return step


@every_image
def test_the_base_image_is_pinned(image: Image) -> None:
    _, tag = image.base.split(":")
    assert re.search(r"\d+\.\d+", tag)


@every_image
def test_a_container_runs_without_root_and_stops_on_sigterm(image: Image) -> None:
    assert image.last("USER") == "10001:10001"
    assert any("useradd --uid 10001 --gid 10001" in step.rest for step in image.all("RUN"))
    assert image.last("STOPSIGNAL") == "SIGTERM"
    assert image.entrypoint[0] in PROJECT["project"]["scripts"]
    assert json.loads(image.last("CMD")) == ["--help"]


@every_image
def test_a_change_of_code_leaves_the_packages_cached(image: Image) -> None:
    code = code_step(image)
    for number, step in enumerate(image.instructions):
        if "pip install" in step.rest and number != code:
            assert number < code
    manifests = {"requirements/cpu.lock", "pyproject.toml", "medpref/__init__.py", "recipes"}
    assert {source for source in image.sources if source != "."} <= manifests
    assert image.instructions[code].flags == (("mount", "type=bind,target=/src"),)


@every_image
def test_no_secret_is_built_in(image: Image) -> None:
    for step in (*image.all("ENV"), *image.all("ARG")):
        assert not re.search(r"token|secret|password|key", step.rest, re.IGNORECASE)


@every_image
def test_what_is_copied_is_there_and_reaches_the_build(image: Image) -> None:
    for source in image.sources:
        assert (ROOT / source).exists()
        assert source == "." or reaches_build(source)


def test_the_build_gets_all_of_the_project_and_nothing_else() -> None:
    settings = PROJECT["tool"]["hatch"]
    packages = settings["build"]["targets"]["wheel"]["packages"]
    wanted = ["pyproject.toml", PROJECT["project"]["readme"], settings["version"]["path"]]
    for path in (*wanted, *packages, "recipes/quickstart.toml", "policy/templates/plain.jinja"):
        assert reaches_build(path), path
    for path in (".git/config", ".venv/bin/python", "tests/docker/reading.py", "runs/quickstart-1"):
        assert not reaches_build(path), path
    for path in ("prompts.jsonl", ".env", "requirements/cpu.in", "loop/__pycache__/gate.pyc"):
        assert not reaches_build(path), path


@pytest.mark.parametrize("name", ON_CPU)
def test_the_lock_is_installed_as_everywhere_else(name: str) -> None:
    image = ON_CPU[name]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (index,) = re.findall(r"^TORCH_INDEX := (\S+)$", makefile, re.MULTILINE)
    assert f"TORCH_INDEX={index}" in [step.rest for step in image.all("ARG")]
    installs = [step.rest for step in image.all("RUN") if "pip install" in step.rest]
    assert all("pip install --no-deps" in step for step in installs)
    assert len(installs) == 3


@pytest.mark.parametrize("name", ON_CPU)
def test_python_on_the_cpu_is_the_one_of_the_lock(name: str) -> None:
    major, minor = sys.version_info[:2]
    assert ON_CPU[name].base == f"python:{major}.{minor}-slim-bookworm"


@pytest.mark.parametrize("name", ON_CPU)
def test_what_is_left_out_stands_in_the_lock(name: str) -> None:
    locked = {line.partition("==")[0] for line in LOCK}
    assert not set(ON_CPU[name].left_out) - locked


@pytest.mark.parametrize(
    "image", [i for (_, device), i in IMAGES.items() if device == "gpu"], ids=ON_CPU
)
def test_the_gpu_image_installs_an_extra_of_the_project(image: Image) -> None:
    (extra,) = (
        re.search(r"/tmp/medpref\[(\w+)\]", step.rest)
        for step in image.all("RUN")
        if "/tmp/medpref[" in step.rest
    )
    assert extra
    assert extra[1] in PROJECT["project"]["optional-dependencies"]


class Answer(BaseHTTPRequestHandler):
    """Answers health with the status of the server, and nothing else."""

    def do_GET(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]  # set by the test
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", [name for name, image in ON_CPU.items() if image.health_url])
@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_tells_ready_from_not_ready(
    name: str, status: int, healthy: bool, server: HTTPServer
) -> None:
    server.status = status  # type: ignore[attr-defined]  # read by Answer
    kind, _, words = ON_CPU[name].last("HEALTHCHECK").partition(" ")
    _, *arguments = json.loads(words)
    here = [re.sub(r":\d{4}/", f":{server.server_port}/", word) for word in arguments]
    done = subprocess.run([sys.executable, *here], check=False, capture_output=True)
    assert kind == "CMD"
    assert (done.returncode == 0) == healthy


@pytest.mark.integration
@pytest.mark.parametrize("name", ON_CPU)
def test_a_service_imports_without_what_its_image_leaves_out(name: str, tmp_path: Path) -> None:
    python = environment_of(ON_CPU[name], tmp_path / "environment")
    variables = {"HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", **ON_CPU[name].variables}
    subprocess.run([python, "-c", f"import {SERVED_BY[name]}"], check=True, cwd=ROOT, env=variables)


@pytest.mark.integration
def test_rewards_are_given_without_what_the_image_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = ON_CPU["reward-server"]
    python = environment_of(image, tmp_path / "environment")
    model, key_file, port = tmp_path / "model", tmp_path / "keys.json", free_port()
    save_model(model, make_tokenizer())
    keys.main(["add", str(key_file), "--name", "me"])
    secret = capsys.readouterr().out.strip()
    flags = f"--host 127.0.0.1 --port {port} --dtype float32 --model {model} --keys {key_file}"
    monkeypatch.chdir(ROOT)
    with ChildProcess(
        [str(python), "-m", *image.entrypoint, *flags.split()], log_file=tmp_path / "log"
    ) as server:
        url = f"http://127.0.0.1:{port}"
        server.wait_until_ready(f"{url}/health/ready", timeout=120)
        with RewardClient(url, ClientOptions(api_key=secret)) as client:
            (scored,) = client.score([group()])
        with RewardClient(url) as stranger, pytest.raises(Unauthorized):
            stranger.score([group()])
    assert all(result.reward is not None for result in scored.results)


def environment_of(image: Image, folder: Path) -> Path:
    """A Python with the packages of an image, linked to the ones that are installed here."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    locked = {line.partition("==")[0] for line in LOCK}
    for name in {"medpref", *locked} - set(image.left_out):
        package = distribution(name)
        for entry in {file.parts[0] for file in package.files or ()}:
            here = Path(str(package.locate_file(entry)))
            if entry not in {"..", "__pycache__"} and here.suffix != ".pth" and here.exists():
                (site / entry).unlink(missing_ok=True)
                (site / entry).symlink_to(here)
    return folder / "bin" / "python"
