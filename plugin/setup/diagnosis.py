"""A text about this installation to paste into an issue, without home folders and user names."""

from __future__ import annotations

import getpass
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from .machine import Machine, free_space

# Variables that decide what Python, TLS and GPU libraries find.
TELLING = ("PATH", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "SSL_CERT_DIR",
           "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL",
           "CUDA_VISIBLE_DEVICES", "TERRAZZO_PYTHON")  # fmt: skip
# Home folders as systems and programs write them: also with doubled backslashes, or with slashes on Windows. A user
# name may contain a space only if the path continues after it.
HOMES = re.compile(
    r"""(?<![\w/\\.~])(?:[a-z]:(?:\\{1,2}|/)users(?:\\{1,2}|/)(?:[^\\/:*?"<>|\r\n]+(?=[\\/])|[^\\/\s:*?"'<>|]+)"""
    r"""|/(?:home|users)/[^/\s:"'<>|]+)""",
    re.IGNORECASE,
)
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def diagnose(facts: Mapping[str, str], machine: Machine, folder: Path, log: str, variables: Mapping[str, str]) -> str:
    """Collect what helps others to find a problem.

    Args:
        facts: What the caller knows, such as the versions of QGIS and the plugin.
        machine: This computer.
        folder: The folder of the environments.
        log: The last lines of a build.
        variables: Environment variables, of which the relevant ones are included.
    """
    gpu = machine.gpu
    card = f"{gpu.name}, driver {'.'.join(map(str, gpu.driver))}, capability {gpu.capability}" if gpu else "none found"
    lines = [
        *(f"{name}: {value}" for name, value in facts.items()),
        f"System: {platform.platform()}, {machine.processor}{' (translated)' if machine.translated else ''}",
        f"Python: {sys.version.split()[0]}, {sys.executable}, prefix {sys.prefix}",
        f"Graphics card: {card}",
        f"Environments: {folder}, {free_space(folder) / 1e9:.1f} GB free",
        *(f"{name}={variables[name]}" for name in TELLING if variables.get(name)),
        "",
        log.strip(),
    ]
    return blanked("\n".join(lines).strip() + "\n")


def blanked(text: str) -> str:
    """Remove home folders, the user's name and passwords in addresses from a text."""
    text = HOMES.sub("~", CREDENTIALS.sub("***@", text))
    for home in sorted({str(Path.home()), os.path.realpath(Path.home())}, key=len, reverse=True):
        if len(home) > 1:
            text = re.sub(re.escape(home), "~", text, flags=re.IGNORECASE if os.name == "nt" else 0)
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return text
    # A short name would also match within words.
    return re.sub(rf"(?<![\w]){re.escape(user)}(?![\w])", "USER", text) if len(user) > 2 and user != "root" else text
