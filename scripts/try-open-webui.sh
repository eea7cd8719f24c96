#!/usr/bin/env bash
# Connects a real Open WebUI to fnsync as its Pipelines server, and drives both through Open WebUI's own API.
#
#   scripts/try-open-webui.sh                          installs Open WebUI in a throw-away environment: several gigabytes
#   OPEN_WEBUI_PYTHON=/path/python scripts/try-open-webui.sh      takes an environment that has it
#
# Prints a line for each check; fails if one does. Nothing is downloaded but packages.
set -euo pipefail
cd "$(dirname "$0")/.."
VERSION=0.12.4

make --silent .venv/.ready
python=${OPEN_WEBUI_PYTHON:-}
if [ -z "$python" ]; then
    folder=$(mktemp -d "${TMPDIR:-/tmp}/open-webui.XXXXXX")
    trap 'rm -rf "$folder"' EXIT
    echo "installing open-webui $VERSION in $folder; this takes some minutes"
    .venv/bin/uv venv --quiet --python 3.11 "$folder/venv"
    .venv/bin/uv pip install --python "$folder/venv/bin/python" "open-webui==$VERSION"
    python=$folder/venv/bin/python
fi
.venv/bin/python -m scripts.try_open_webui "$python"
