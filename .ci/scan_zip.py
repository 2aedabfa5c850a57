"""Scan a plugin's zip as the plugin repository does: there, one finding of bandit or detect-secrets blocks a version.

    .../dev/bin/python .ci/scan_zip.py build/terrazzo.zip

The rules are those of plugins.qgis.org (July 2026, docs/security-scanning): all of bandit's but B404, whatever their
severity, and all of detect-secrets' but public addresses, with its own exceptions for metadata.txt.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TOOLS = Path(sys.executable).parent
BANDIT = ("bandit", "-r", ".", "-f", "json", "--quiet", "-s", "B404")
SECRETS = ("detect-secrets", "scan", "--all-files", "--exclude-files", r"metadata\.txt", "--disable-plugin",
           "IPPublicDetector", ".")  # fmt: skip


def main() -> None:
    """Scan; exit status 1 with what was found."""
    archive = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        started = [
            subprocess.Popen([TOOLS / name, *rest], cwd=folder, stdout=subprocess.PIPE, text=True)
            for name, *rest in (BANDIT, SECRETS)
        ]
        code, secrets = (json.loads(process.communicate()[0]) for process in started)
    lines, skipped = code["metrics"]["_totals"]["loc"], code["metrics"]["_totals"]["skipped_tests"]
    if not lines or code["errors"]:
        sys.exit(f"bandit read {lines} lines: {code['errors']}")
    found = [f"{row['filename']}:{row['line_number']}: {row['test_id']} {row['issue_text']}" for row in code["results"]]
    for name, rows in secrets["results"].items():
        found += [f"{name}:{row['line_number']}: {row['type']}" for row in rows]
    if found:
        sys.exit("\n".join([f"{archive}: the plugin repository would refuse this.", *found]))
    print(f"{archive}: bandit and detect-secrets find nothing in {lines} lines ({skipped} places marked, with reasons)")


if __name__ == "__main__":
    main()
