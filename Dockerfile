# The serving image: bundles in, answers out. No training or export code, no torch: the build fails if any gets in.
# How to build and run it: docs/container.md

ARG BASE=python:3.11-slim

# --- builder: a virtual environment with the "serve" extra, every package as pinned in constraints.txt -------------
FROM ${BASE} AS builder

# The second constraint is for pip >= 25.3, where the first no longer reaches isolated builds; older ones ignore it.
ENV PIP_CONSTRAINT=/deps/constraints.txt \
    PIP_BUILD_CONSTRAINT=/deps/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

# pip stays outside and installs into the environment from there, so neither it nor setuptools reaches the image.
RUN python -m venv --without-pip /opt/venv

# First what others wrote, around an empty project: this layer changes with pyproject.toml and constraints.txt only.
WORKDIR /deps
COPY pyproject.toml constraints.txt ./
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    touch README.md downstream.py \
    && pip --python /opt/venv install ".[serve]"

# Then what we wrote. In another folder: setuptools would keep the empty files that it built above.
WORKDIR /src
COPY pyproject.toml README.md downstream.py ./
COPY serving/ serving/
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip --python /opt/venv install --no-deps --force-reinstall . \
    && pip --python /opt/venv check \
    && find /opt/venv/lib/python3*/site-packages/numpy -type d -name tests -prune -exec rm -r {} +

# The wall: what can be imported here is what the image has.
RUN /opt/venv/bin/python -I -c "import importlib.util as u, sys; \
names = 'torch transformers datasets finetune export loadtest reporting demo pip setuptools'.split(); \
found = [name for name in names if u.find_spec(name)]; \
sys.exit(f'these must not be in the serving image: {found}' if found else 0)"

# --- final ----------------------------------------------------------------------------------------------------------
FROM ${BASE} AS serving

# Nothing is installed in here: what the base image brings for that only ages.
RUN python -B -m pip uninstall --quiet --yes --root-user-action=ignore wheel setuptools pip

COPY --from=builder /opt/venv /opt/venv

# DRAIN_DELAY: Kubernetes goes on sending for a few seconds after SIGTERM. Delay and timeout together stay below its
# grace period of 30 s. ORT: without it ONNX Runtime >= 1.29 reports to its maker what models it runs.
ENV PATH=/opt/venv/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONUNBUFFERED=1 \
    DOWNSTREAM_HOST=0.0.0.0 \
    DOWNSTREAM_HTTP_PORT=8000 \
    DOWNSTREAM_GRPC_PORT=8001 \
    DOWNSTREAM_DRAIN_DELAY=5 \
    DOWNSTREAM_DRAIN_TIMEOUT=20

# The environment came with its bytecode, but the base image has none for the standard library, and a read-only root
# could not keep it: one import as root writes what the server uses.
RUN env -u PYTHONDONTWRITEBYTECODE python -c "import onnxruntime, serving.__main__, serving.worker"

# A mount point and not a VOLUME, so that an image with models in it can be built on this one.
WORKDIR /models
USER 10001:10001
EXPOSE 8000 8001
STOPSIGNAL SIGTERM

# http.client and not urllib: a proxy that is set for the container is not for this.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client as h, os, sys; c = h.HTTPConnection('127.0.0.1', int(os.environ['DOWNSTREAM_HTTP_PORT']), timeout=2); c.request('GET', '/v2/health/ready'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["downstream", "serve", "/models"]

# Last, because they change with every commit.
ARG BASE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="downstream" \
      org.opencontainers.image.description="Serves verified models over REST and gRPC" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
