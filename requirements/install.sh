#!/bin/sh
# Creates .venv and installs everything into it; does nothing when that is done already.
# SOTTOVOCE_DEVICE=cpu|cuda overrides the choice (cuda where `nvidia-smi -L` finds a GPU);
# PYTHON names the interpreter that makes the environment (3.11 to 3.13).
set -eu
cd "$(dirname "$0")/.."

say() { printf '[%4d s] %s\n' "$(($(date +%s) - started))" "$1"; }
fail() { printf 'install.sh: %s\n' "$1" >&2; exit 1; }
pip_install() { .venv/bin/python -m pip install -qq --disable-pip-version-check "$@"; }

find_device() { if nvidia-smi -L >/dev/null 2>&1; then echo cuda; else echo cpu; fi; }

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

create_venv() {
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if is_supported "$python"; then "$python" -m venv .venv; return; fi
    done
    fail "no Python 3.11 to 3.13 found, which vLLM 0.32 needs: install one, or name it, for example
\`PYTHON=/usr/bin/python3.12 make setup\`"
}

# Plain `torch==2.13.0` from PyPI is the CUDA build; the CPU build has a local version.
install_cpu_torch() {
    pip_install --no-deps "torch==2.13.0+cpu" 2>/dev/null ||
        pip_install --no-deps "torch==2.13.0+cpu" --index-url https://download.pytorch.org/whl/cpu ||
        fail "no CPU wheel of torch 2.13.0: neither pip's own index nor download.pytorch.org gave one"
}

install_cpu() {
    say "installing torch (CPU)"
    install_cpu_torch
    say "installing vLLM and the rest of requirements/cpu.txt"
    pip_install --no-deps -r requirements/cpu.txt
}

install_cuda() {
    say "installing vLLM and the rest of requirements/cuda.txt"
    pip_install -r requirements/cuda.txt
}

started=$(date +%s)
device=${SOTTOVOCE_DEVICE:-$(find_device)}
case $device in cpu | cuda) ;; *) fail "SOTTOVOCE_DEVICE is '$device': set it to cpu or cuda" ;; esac

stamp="$device $(cat requirements/install.sh "requirements/$device.txt" pyproject.toml | cksum)"
[ "$stamp" = "$(cat .venv/.stamp 2>/dev/null || true)" ] && exit 0

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "creating .venv"
    create_venv
fi
"install_$device"
say "installing sottovoce"
pip_install --no-deps --no-build-isolation -e .
printf '%s\n' "$stamp" >.venv/.stamp
say "ready ($device)"
