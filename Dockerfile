# The operator's image: operator, collector, status API and loader in one, without torch.
#   docker build -t modelyard:dev .
ARG BASE=python:3.12-slim
# The stage below, or an image that was made of it.
ARG DEPENDENCIES=dependencies

FROM ${BASE} AS build
ENV UV_SYSTEM_CERTS=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
COPY requirements/bootstrap.lock requirements/operator.lock /requirements/
# A certificate bundle of the machine that builds may be given as the secret `ca`; without it the base image's own is used.
RUN --mount=type=cache,target=/root/.cache \
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    python3 -m venv /uv && /uv/bin/pip install --quiet --require-hashes -r /requirements/bootstrap.lock && \
    /uv/bin/uv venv --quiet --python python3 /opt/modelyard && \
    /uv/bin/uv pip sync --quiet --python /opt/modelyard/bin/python --require-hashes /requirements/operator.lock

FROM ${BASE} AS dependencies
# git, with LFS and SSH: what a GIT source is fetched with.
RUN --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt,required=false \
    apt-get update -qq && apt-get install -y -qq --no-install-recommends git git-lfs openssh-client >/dev/null && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/modelyard /opt/modelyard

FROM ${DEPENDENCIES}
# USER: a pod may run under any uid, also one that the image knows no name of.
ENV PATH=/opt/modelyard/bin:$PATH PYTHONPATH=/opt/modelyard/app PYTHONUNBUFFERED=1 HOME=/tmp USER=modelyard
RUN printf '#!/opt/modelyard/bin/python\nimport sys\nfrom modelyard.cli import main\nsys.exit(main())\n' \
    > /opt/modelyard/bin/modelyard && chmod 755 /opt/modelyard/bin/modelyard
# ssh refuses to run as a user without a name: this one is the default of podSecurity.runAsUser.
RUN printf 'modelyard:x:1000:1000::/tmp:/usr/sbin/nologin\n' >> /etc/passwd
COPY operator/modelyard /opt/modelyard/app/modelyard
COPY training/modelyard_training/__init__.py /opt/modelyard/app/modelyard_training/__init__.py
COPY training/modelyard_training/agent /opt/modelyard/app/modelyard_training/agent
COPY training/modelyard_training/params /opt/modelyard/app/modelyard_training/params
RUN /opt/modelyard/bin/python -m compileall -q /opt/modelyard/app
USER 1000:1000
ENTRYPOINT ["modelyard"]
