# fleetsim, ready to run:  docker build -t fleetsim .
#                          docker run --rm -v fleetsim-results:/app/results fleetsim
# Plain instructions only, so that every builder (Docker's, Podman's, Kaniko) takes it.
FROM python:3.11-slim

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
RUN awk '/^[^ #]/ { wanted = /^uv==/ } wanted' requirements.lock > uv.lock \
    && pip install --no-deps --require-hashes -r uv.lock \
    && rm uv.lock \
    && uv pip install --system --compile-bytecode --only-binary :all: \
        --constraints requirements.lock --requirements pyproject.toml hatchling

# The package is installed from its folder, so that the source whose hash a run records is the one
# that ran; compiled here, since its folder is not writable later.
COPY README.md LICENSE ./
COPY fleetsim fleetsim
RUN pip install --no-deps --no-build-isolation --editable . \
    && python -m compileall -q fleetsim

COPY experiments experiments
COPY notebooks notebooks

# Run as an ordinary user. The folders that are written to are open to any user (mode 1777, as /tmp
# is): an empty named volume takes its owner and mode from them, and `--user "$(id -u):$(id -g)"`
# works too, as bind mounts on Linux need it. The library itself stays root's. Matplotlib's list of
# fonts is made and the generator's kernel compiled here, once; on a processor of another kind than
# the builder's, the first large batch compiles it again. It is compared with its source by a time
# that layers keep to the second only.
ENV FLEETSIM_ROOT=/app \
    HOME=/srv/fleetsim \
    MPLCONFIGDIR=/srv/fleetsim/matplotlib \
    NUMBA_CACHE_DIR=/srv/fleetsim/numba \
    IPYTHONDIR=/srv/fleetsim/ipython \
    JUPYTER_CONFIG_DIR=/srv/fleetsim/jupyter/config \
    JUPYTER_DATA_DIR=/srv/fleetsim/jupyter/data \
    JUPYTER_RUNTIME_DIR=/srv/fleetsim/jupyter/runtime
RUN useradd --uid 1000 --user-group --home-dir "$HOME" --no-create-home fleetsim \
    && mkdir -p data results "$NUMBA_CACHE_DIR" "$IPYTHONDIR" \
        "$JUPYTER_CONFIG_DIR" "$JUPYTER_DATA_DIR" "$JUPYTER_RUNTIME_DIR" \
    && python -c "import matplotlib.font_manager" \
    && touch -d "@$(stat -c %Y fleetsim/generate/kernel/compiled.py)" fleetsim/generate/kernel/compiled.py \
    && python -c "from fleetsim.generate.kernel.pieces import compile_kernel; compile_kernel()" \
    && chown -R fleetsim:fleetsim data results experiments notebooks "$HOME" \
    && chmod 1777 . \
    && find data results experiments notebooks "$HOME" -type d -exec chmod 1777 {} + \
    && find experiments notebooks "$HOME" -type f -exec chmod a+rw {} +

USER fleetsim
EXPOSE 8888
ENTRYPOINT ["fleetsim"]
CMD ["run", "001-baseline"]
