# SPDX-License-Identifier: Apache-2.0
# The daemon as an image. Every wheel comes from requirements.lock with its hash; the final stage
# installs from those wheels alone, without a network, and takes only what the daemon needs.
FROM python:3.11-slim-bookworm AS wheels
WORKDIR /src
COPY requirements.lock ./
RUN python -m pip download --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
      --dest /wheels --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY controller ./controller
RUN python -m venv /build \
 && /build/bin/python -m pip install --no-cache-dir --no-index --find-links=/wheels hatchling \
 && /build/bin/python -m pip wheel --no-cache-dir --no-deps --no-build-isolation \
      --wheel-dir /wheels . \
 && python -m venv /opt/switchgear \
 && /opt/switchgear/bin/python -m pip install --no-cache-dir --no-index --find-links=/wheels \
      switchgear

FROM python:3.11-slim-bookworm
COPY --from=wheels /opt/switchgear /opt/switchgear
# A read-only root has no place for bytecode or for a home; both are switched off, not worked around.
ENV PATH=/opt/switchgear/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/nonexistent
# Numeric, so that runAsNonRoot can be checked without a passwd file.
USER 65532:65532
EXPOSE 8340
# Kubernetes asks /livez itself; a second, private opinion would only disagree with it.
HEALTHCHECK NONE
ENTRYPOINT ["switchgear"]
CMD ["run"]
