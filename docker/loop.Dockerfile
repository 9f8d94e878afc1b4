# The loop and everything else that `medpref` does: training, alignment rounds, reports.
#
#   docker build -f docker/loop.Dockerfile -t medpref-loop:cpu .
#   docker build -f docker/loop.Dockerfile -t medpref-loop:gpu --build-arg DEVICE=gpu .
#   docker run --rm --shm-size 1g -v runs:/runs medpref-loop:cpu quickstart
#
# It also holds what both servers need, so it can play a whole run alone.

ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# triton has no backend for CPUs and is a quarter of the lock; the rest checks code.
ARG LEFT_OUT="triton|mypy|ruff|pytest|pytest-timeout|hypothesis|schemathesis|hypothesis-graphql\
|graphql-core|jsonschema-rs|harfile|pyrate-limiter|werkzeug"
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
    && install --directory --owner=medpref --group=medpref /models /runs /keys
# At the root, so that the paths of the documentation hold: recipes/NAME.toml, runs/NAME-1.
WORKDIR /
COPY recipes /recipes
RUN --mount=type=bind,target=/src pip install --no-deps --no-build-isolation /src
ENV PYTHONUNBUFFERED=1
USER 10001:10001
STOPSIGNAL SIGTERM
# A job is over when it is over; nobody asks how it is.
HEALTHCHECK NONE
ENTRYPOINT ["medpref"]
CMD ["--help"]
