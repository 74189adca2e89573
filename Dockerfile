# The main job in a container:  docker build -t connection-harness . && docker run -v "$PWD/results:/results" connection-harness
FROM python:3.11.14-slim-bookworm

# A wheel index with another torch build, such as PyTorch's own for one CUDA version or for the CPU.
ARG TORCH_INDEX=""
ENV VENV=/opt/venv APP=/app HARNESS_RESULTS=/results HARNESS_CACHE=/results/cache PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ENV PATH="$VENV/bin:$PATH"

RUN useradd --create-home --uid 1000 harness && mkdir -p /results && chown harness /results

# For the kernels of the connections, which are compiled where they run; without it they are plain PyTorch.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*

WORKDIR $APP
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY harness harness
# torch first and alone, as in the Makefile. The package is installed without an editable link: nothing is written later.
RUN python -m venv "$VENV" && "$VENV/bin/pip" install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
RUN "$VENV/bin/pip" install -c constraints.txt .
COPY suites suites

USER harness
VOLUME /results
CMD ["harness", "run", "suites/quickstart.yaml", "--jobs", "2"]
