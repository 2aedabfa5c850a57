"""Known problems of building an environment or using it first, with explanation and remedy.

Installers and operating systems report them in hundreds of ways; their output is searched for the common ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional


@dataclass(frozen=True)
class Trouble:
    """A known problem.

    Attributes:
        name: A short name for tests and the log.
        signs: Pattern of the output that shows it.
        problem, remedy: The two sentences of the message, with the pattern's named groups in braces.
        passing: Whether another try may well succeed.
        local: Whether the cause is this computer, so that downloading from elsewhere would not help.
    """

    name: str
    signs: re.Pattern[str]
    problem: str
    remedy: str
    passing: bool = False
    local: bool = False


def _trouble(name: str, signs: str, problem: str, remedy: str, passing: bool = False, local: bool = False) -> Trouble:
    return Trouble(name, re.compile(signs, re.IGNORECASE | re.DOTALL), problem, remedy, passing, local)


# Settings of the panel; the command has arguments of the same meaning.
ELSEWHERE = "choose another folder under Advanced ▸ Folder"
BASE = "choose it under Advanced ▸ Built upon"

# The first match counts, so specific patterns come before general ones: antivirus programs make pip fail with "failed
# to rename", proxies with TLS errors.
TROUBLES = (
    _trouble(
        "visual c++",
        r"WinError (126|1114)\b.*(c10|torch|\.dll)|(c10|torch)\S*\.dll.*WinError (126|1114)\b",
        "Windows lacks the Visual C++ runtime that PyTorch needs.",
        "Install “Microsoft Visual C++ Redistributable 2015–2022, x64” from Microsoft (vc_redist.x64.exe), restart the "
        "computer, and try again.",
    ),
    _trouble(
        "disk full",
        r"No space left on device|Errno 28\b|WinError 112\b|not enough space on the disk|Disk quota exceeded",
        "The disk is full.",
        f"Free some disk space, or {ELSEWHERE}.",
        local=True,
    ),
    _trouble(
        "path too long",
        r"WinError 206\b|Errno 36\b|File ?name too long|path is too long|Long Path support",
        "The path of a file is longer than this system allows.",
        "Choose a folder with a shorter path, such as C:\\terrazzo, under Advanced ▸ Folder, or enable long paths in "
        "Windows.",
        local=True,
    ),
    _trouble(
        "files locked",
        r"failed to rename|WinError (5|32)\b|being used by another process|Access is denied",
        "Another program, usually an antivirus program, locked a file during installation.",
        "Try again; if it happens again, exclude the environment's folder in the antivirus program, or pause the "
        "program during the set-up.",
        passing=True,
        local=True,
    ),
    _trouble(
        "proxy",
        r"ProxyError|Cannot connect to proxy|407 Proxy Authentication|Tunnel connection failed|tunnel error",
        "The proxy refuses the connection.",
        "Enter proxy, user and password in QGIS's Settings ▸ Options ▸ Network, then try again; or download the "
        "packages on another computer, and choose their folder under Advanced ▸ Packages from.",
    ),
    _trouble(
        "tls",
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|SSLError|self.signed certificate|UnknownIssuer|"
        r"invalid peer certificate",
        "The server's certificate is not trusted, because a proxy or firewall of your network decrypts connections.",
        "Ask your administrator to add the network's certificate to the system's trust store, then try again; or "
        "download the packages on another computer, and choose their folder under Advanced ▸ Packages from.",
    ),
    _trouble(
        "no managed python",
        r"python-build-standalone|No interpreter found for Python",
        "Another Python could not be downloaded, because uv cannot reach github.com.",
        f"Try again when github.com can be reached; or install a 64-bit Python 3.12 or 3.13, and {BASE}.",
    ),
    _trouble(
        "no network",
        r"getaddrinfo failed|Name or service not known|Temporary failure in name resolution|nodename nor servname|"
        r"Network is unreachable|No route to host|dns error|Connection refused|actively refused|WinError 1006[01]\b|"
        r"ConnectTimeoutError|\(connect timeout=",
        "The server of the packages cannot be reached: there is no network, or a firewall blocks it.",
        "Check the network and QGIS's Settings ▸ Options ▸ Network, then try again; or download the packages on "
        "another computer, and choose their folder under Advanced ▸ Packages from.",
    ),
    _trouble(
        "stalled",
        r"gave no sign for|ReadTimeoutError|Read timed out|IncompleteRead|Connection (broken|reset|aborted)|"
        r"ConnectionResetError|RemoteDisconnected|incomplete-download",
        "A download stalled or was interrupted.",
        "Try again: files that are already downloaded are kept.",
        passing=True,
    ),
    _trouble(
        "hashes",
        r"DO NOT MATCH THE HASHES|hash mismatch",
        "A downloaded file differs from what the package index announced.",
        "Try again; if it happens again, a proxy of your network changes downloads: ask your administrator.",
        passing=True,
    ),
    _trouble(
        "folder lacks packages",
        r"--no-index.*(?:No matching distribution found for|Could not find a version that satisfies the requirement) "
        r"(?P<what>[\w.-]+)",
        "The folder of packages lacks {what}, or has it only for another version, Python or system.",
        "Download the packages again, for the Python version and the system of this computer, or clear Advanced ▸ "
        "Packages from.",
    ),
    _trouble(
        "no wheels",
        r"No matching distribution found for (torch|torchvision|numpy)\b|no wheels? (with|for) a matching Python|"
        r"has no wheels with a matching",
        "There is no PyTorch for this Python or this kind of computer.",
        f"Install a 64-bit Python 3.12 or 3.13, and {BASE}; PyTorch supports new versions of Python some months after "
        "their release.",
    ),
    _trouble(
        "no venv",
        r"ensurepip is not available|No module named '?(venv|ensurepip|pip)\b",
        "This Python cannot create virtual environments.",
        "On Debian and Ubuntu, install python3-venv (sudo apt-get install python3-venv); on other systems, install a "
        f"64-bit Python 3.12 or 3.13, and {BASE}.",
    ),
    _trouble(
        "unlike builds",
        r"operator torchvision::nms does not exist|Couldn't load custom C\+\+ ops|compiled with different CUDA",
        "PyTorch and torchvision come from different builds, which do not work together.",
        "Remove additional package indexes and folders (extra-index-url, find-links) from pip's configuration, which "
        "“pip config list” shows, then set up again.",
    ),
    _trouble(
        "card too new",
        r"no kernel image is available|is not compatible with the current PyTorch installation",
        "The graphics card is of a generation that this build of PyTorch does not support.",
        "Set up again, which chooses the build that fits the card; until then, use device cpu.",
    ),
    _trouble(
        "driver too old",
        r"driver (version )?(on your system )?is (too old|insufficient)|CUDA driver version is insufficient|"
        r"forward compatibility was attempted",
        "The graphics card's driver is too old for this build of PyTorch.",
        "Update the driver of the graphics card, then set up again; until then, use device cpu.",
    ),
    _trouble(
        "processor too old",
        r"Illegal instruction|0xC000001D|signal 4\b",
        "This processor lacks instructions that PyTorch needs.",
        "PyTorch needs a processor with AVX (2012 or newer): use another computer for training and mapping.",
    ),
    _trouble(
        "no right",
        r"Permission denied|Errno 13\b|Operation not permitted|Read-only file system|Errno 30\b",
        "You are not allowed to write there.",
        f"Change the permissions, or {ELSEWHERE}.",
        local=True,
    ),
)  # fmt: skip


def find_trouble(text: str) -> Optional[Trouble]:
    """Return the known trouble in a command and its output, or in a traceback; None if there is none."""
    for trouble in TROUBLES:
        found = trouble.signs.search(text)
        if found is not None:
            return replace(trouble, problem=trouble.problem.format(**found.groupdict()))
    return None


def usable_certificates(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables such as SSL_CERT_DIR that name missing files or folders.

    Some QGIS installations set them to folders of the computer that they were built on; then no server is trusted.
    """
    gone = [name for name in ("SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
            if environment.get(name) and not Path(environment[name]).exists()]  # fmt: skip
    return {name: value for name, value in environment.items() if name not in gone}
