# fleetsim, ready to run:  docker build -t fleetsim .
#     mkdir -p results
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD/results:/app/results" fleetsim
# With optional extras:    docker build --build-arg EXTRAS=cluster,lab -t fleetsim .
# Read-only:               docker run --rm --read-only --tmpfs /tmp -v fleetsim-results:/app/results fleetsim
# Plain instructions only, so that every builder (Docker's, Podman's, Kaniko) takes it.
ARG BASE=python:3.13.5-slim-bookworm

# What installs stays behind in this stage: uv, hatchling and the lock.
FROM ${BASE} AS build
ARG EXTRAS=lab
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /app

# The dependencies have layers of their own: a change of source does not install them anew.
# Every package is checked against the hashes in requirements.lock, uv and hatchling (which installs
# ours) included, and no source distribution is built: as .ci/setup does outside a container.
COPY pyproject.toml requirements.lock ./
RUN python -m venv /opt/tools \
    && python -m venv --without-pip /opt/fleetsim \
    && awk '/^[^ #]/ { wanted = /^uv==/ } wanted' requirements.lock > uv.lock \
    && /opt/tools/bin/pip install --no-deps --require-hashes -r uv.lock \
    && /opt/tools/bin/uv pip install --python /opt/tools/bin/python --only-binary :all: \
        --constraints requirements.lock hatchling \
    && /opt/tools/bin/uv pip install --python /opt/fleetsim/bin/python --compile-bytecode \
        --only-binary :all: --constraints requirements.lock --requirements pyproject.toml \
        $(printf '%s' "$EXTRAS" | tr ',' ' ' | sed 's/[^ ][^ ]*/--extra &/g')

# Matplotlib's list of fonts is made and the generator's kernel compiled here, once, before what
# changes more often is copied; its machine code lies beside its source. On a processor of another
# kind than the builder's, the first large batch compiles it again. A checkout under umask 077 is
# opened for reading first.
ENV HOME=/srv/fleetsim \
    MPLCONFIGDIR=/srv/fleetsim/matplotlib
COPY fleetsim fleetsim
RUN chmod -R a+rX fleetsim \
    && /opt/fleetsim/bin/python -c "import matplotlib.font_manager" \
    && /opt/fleetsim/bin/python -c "from fleetsim.generate.kernel.pieces import compile_kernel; compile_kernel()" \
    && /opt/fleetsim/bin/python -m compileall -q fleetsim

# The package is installed from its folder, so that the source whose hash a run records is the one
# that ran.
COPY README.md LICENSE ./
RUN /opt/tools/bin/python -m hatchling build -t wheel:editable -d /opt/wheel \
    && /opt/tools/bin/uv pip install --python /opt/fleetsim/bin/python --no-deps /opt/wheel/*.whl \
    && chmod -R a+rX /opt/fleetsim /srv/fleetsim

FROM ${BASE}
LABEL org.opencontainers.image.title="fleetsim" \
    org.opencontainers.image.description="Experiment kit for batch feeds of fleet telematics" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.authors="The fleetsim authors"
ENV PATH=/opt/fleetsim/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    FLEETSIM_ROOT=/app \
    HOME=/srv/fleetsim \
    MPLCONFIGDIR=/srv/fleetsim/matplotlib \
    IPYTHONDIR=/tmp/fleetsim/ipython \
    JUPYTER_CONFIG_DIR=/tmp/fleetsim/jupyter/config \
    JUPYTER_DATA_DIR=/tmp/fleetsim/jupyter/data \
    JUPYTER_RUNTIME_DIR=/tmp/fleetsim/jupyter/runtime
WORKDIR /app
COPY --from=build /opt/fleetsim /opt/fleetsim
COPY --from=build /srv/fleetsim /srv/fleetsim
COPY --from=build /app/fleetsim fleetsim
# JupyterLab neither asks whether to show news nor looks for any.
COPY .ci/jupyter/labconfig /opt/fleetsim/etc/jupyter/labconfig
COPY README.md LICENSE ./
COPY experiments experiments
COPY notebooks notebooks
COPY results/001-baseline/reference results/001-baseline/reference

# Run as an ordinary user, or as any other one: `--user "$(id -u):$(id -g)"` works, as bind mounts on
# Linux need it. What is written to is open to all, without the sticky bit: another user may replace
# the gallery that the first one made. An empty named volume takes owner and mode from here. The
# library itself stays root's.
RUN useradd --uid 1000 --user-group --home-dir /srv/fleetsim --no-create-home fleetsim \
    && mkdir -p data landing /tmp/fleetsim && chmod 777 /tmp/fleetsim \
    && chown -R fleetsim:fleetsim data landing results experiments notebooks /srv/fleetsim \
    && chmod -R a+rwX data landing results experiments notebooks /srv/fleetsim \
    && chmod a+rX . README.md LICENSE \
    && chmod -R a+rX fleetsim /opt/fleetsim/etc/jupyter/labconfig

USER fleetsim
EXPOSE 8888
ENTRYPOINT ["fleetsim"]
CMD ["run", "001-baseline"]
