# The policy server: vLLM and the process that watches it, on port 8000 of the loopback interface.
#
#   docker build -f docker/policy-server.Dockerfile -t medpref-policy-server:cpu .
#   docker build -f docker/policy-server.Dockerfile -t medpref-policy-server:gpu --build-arg DEVICE=gpu .
#
# Nothing is exposed, and publishing the port reaches nobody: vLLM's key does not cover the routes
# that load adapters, so whoever reaches the port owns the server. A client shares its network
# namespace instead: docker run --network container:NAME … medpref-loop.

ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# What serving never imports. triton has no backend for CPUs and is a quarter of the lock.
ARG LEFT_OUT="triton|ray|trl|peft|accelerate|datasets|pyarrow|pandas\
|mypy|ruff|pytest|pytest-timeout|hypothesis|schemathesis|hypothesis-graphql|graphql-core\
|jsonschema-rs|harfile|pyrate-limiter|werkzeug"
COPY requirements/cpu.lock /tmp/
# The lock is complete: what its packages wish for beyond it would bring CUDA builds.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --extra-index-url "$TORCH_INDEX" "$(grep '^torch==' /tmp/cpu.lock)"
RUN --mount=type=cache,target=/root/.cache/pip \
    grep -vE "^($LEFT_OUT)==" /tmp/cpu.lock > /tmp/image.lock \
    && pip install --no-deps -r /tmp/image.lock
# The one library that vLLM's kernels take from the system.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*
# Even without compilation of the model, vLLM compiles one small operation for logprobs: that wants
# a C++ compiler and holds up the first request by 14 s, where running it as it is takes 0.2 s.
ENV TORCH_COMPILE_DISABLE=1

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
    touch /tmp/medpref/README.md && pip install hatchling "/tmp/medpref[gpu]"

FROM ${DEVICE}
RUN groupadd --gid 10001 medpref \
    && useradd --uid 10001 --gid 10001 --create-home medpref \
    && install --directory --owner=medpref --group=medpref /models /runs
RUN --mount=type=bind,target=/src pip install --no-deps --no-build-isolation /src
ENV PYTHONUNBUFFERED=1
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=10s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8000/health', trust_env=False).raise_for_status()"]
ENTRYPOINT ["medpref", "serve", "policy", "--log-file", "/runs/policy-server.log"]
CMD ["--help"]
