# Three targets: `docker build --target cpu .`, `--target cuda`, and `--target router`.
# Not run here. The commands inside are those of requirements/install.sh, which was run.

FROM python:3.11-slim AS cpu-build
WORKDIR /app
COPY . .
RUN SOTTOVOCE_DEVICE=cpu PIP_NO_CACHE_DIR=1 sh requirements/install.sh

FROM python:3.11-slim AS cpu
# g++: torch.compile builds its CPU code with it. libnuma: vLLM's extension links to it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home sottovoce
COPY --from=cpu-build --chown=sottovoce /app /app
ENV PATH=/app/.venv/bin:$PATH
USER sottovoce
WORKDIR /app
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["sottovoce"]
CMD ["serve", "tiny-reasoner", "--host", "0.0.0.0", "--port", "8000"]

FROM python:3.11-slim AS router
# In front of replicas; see deploy/README.md.
RUN python3 -m pip install --no-cache-dir vllm-router==0.1.17 && useradd --create-home sottovoce
USER sottovoce
EXPOSE 8000
ENTRYPOINT ["vllm-router"]
CMD ["--help"]

FROM vllm/vllm-openai:v0.32.0 AS cuda
# The image brings vLLM 0.32.0, torch and the CUDA libraries; only our own package is added, and
# gguf for the model name `smollm2`.
WORKDIR /app
COPY . .
RUN python3 -m pip install --no-cache-dir --no-deps . gguf==0.19.0 \
    && useradd --create-home sottovoce
USER sottovoce
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["sottovoce"]
CMD ["serve", "Qwen/Qwen3-4B", "--reasoning-parser", "qwen3", "--host", "0.0.0.0", "--port", "8000"]
