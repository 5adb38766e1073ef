# One image for every service; the command chooses which: `python -m loopai.ingress`,
# `python -m workers executor`, `python -m streams apply`. See docs/how-to/deploy.md.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# Deno, for programs in JavaScript and TypeScript: 96 MB; aioboto3, for program texts in S3: 40 MB.
# `--build-arg EXTRAS=` leaves both out, `EXTRAS=[s3]` one.
ARG EXTRAS=[javascript,s3]
WORKDIR /src
RUN python3 -m venv /build
COPY requirements.lock ./
# Here every dependency is checked against its hash. The lock has the developers' tools too: below, pip
# takes what `loopai` needs from these files and nothing else.
RUN /build/bin/pip wheel -q --no-cache-dir --require-hashes -r requirements.lock -w /wheels \
 && /build/bin/pip install -q --no-index --find-links /wheels hatchling
COPY pyproject.toml README.md LICENSE ./
COPY streams streams
COPY loopai loopai
COPY workers workers
RUN /build/bin/pip wheel -q --no-deps --no-build-isolation --no-index -w /wheels . \
 && python3 -m venv /opt/loopai \
 && /opt/loopai/bin/pip install -q --no-index --find-links /wheels "loopai${EXTRAS}"

FROM ${BASE}
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends bubblewrap \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/loopai /opt/loopai
# A new named volume at /data takes this owner over.
RUN install -d -o 10001 -g 10001 /data
ENV PATH=/opt/loopai/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOOPAI_DATA_DIR=/data \
    LOOPAI_HTTP=0.0.0.0:8080
USER 10001:10001
# The API, and the metrics of the workers where LOOPAI_METRICS asks for them.
EXPOSE 8080 9464
CMD ["python", "-m", "loopai.ingress"]
