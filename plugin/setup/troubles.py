"""What goes wrong while an environment is built or first used, in words, with the way out.

Installers and operating systems say it in hundreds of ways; what they print is searched for the few that people meet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional


@dataclass(frozen=True)
class Trouble:
    """A known trouble.

    Attributes:
        name: A short word for tests and the log.
        signs: A pattern in what was printed.
        problem, remedy: The two sentences, with the pattern's named groups in braces.
        passing: Whether another try may well succeed.
        local: Whether it lies in this computer, so that a download from elsewhere would not help.
    """

    name: str
    signs: re.Pattern[str]
    problem: str
    remedy: str
    passing: bool = False
    local: bool = False


def _trouble(name: str, signs: str, problem: str, remedy: str, passing: bool = False, local: bool = False) -> Trouble:
    return Trouble(name, re.compile(signs, re.IGNORECASE | re.DOTALL), problem, remedy, passing, local)


# Settings of the panel, which are arguments of the command.
ELSEWHERE = "choose another folder under Advanced ▸ Folder"
BASE = "choose it under Advanced ▸ Built upon"

# The first that fits counts, so what is particular comes before what is general: antivirus programs make pip fail with
# "failed to rename", proxies with errors of TLS.
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
        f"Free some space, or {ELSEWHERE}.",
        local=True,
    ),
    _trouble(
        "path too long",
        r"WinError 206\b|Errno 36\b|File ?name too long|path is too long|Long Path support",
        "The path of a file is longer than this system allows.",
        "Choose a folder with a shorter path, such as C:\\terrazzo, under Advanced ▸ Folder, or switch on long paths "
        "in Windows.",
        local=True,
    ),
    _trouble(
        "files locked",
        r"failed to rename|WinError (5|32)\b|being used by another process|Access is denied",
        "Another program held a file while it was installed; most often that is an antivirus program.",
        "Try again; if it happens again, exclude the environment's folder in the antivirus program, or pause it "
        "while the environment is built.",
        passing=True,
        local=True,
    ),
    _trouble(
        "proxy",
        r"ProxyError|Cannot connect to proxy|407 Proxy Authentication|Tunnel connection failed|tunnel error",
        "The proxy does not let the connection through.",
        "Enter proxy, user and password in QGIS's Settings ▸ Options ▸ Network, then try again; or download the "
        "packages on another computer, and name their folder under Advanced ▸ Packages from.",
    ),
    _trouble(
        "tls",
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|SSLError|self.signed certificate|UnknownIssuer|"
        r"invalid peer certificate",
        "The server's certificate is not trusted: a proxy or firewall of your network opens encrypted connections.",
        "Ask your administrator to put the network's certificate into the system's trust store, then try again; or "
        "download the packages on another computer, and name their folder under Advanced ▸ Packages from.",
    ),
    _trouble(
        "no managed python",
        r"python-build-standalone|No interpreter found for Python",
        "Another Python could not be downloaded: uv takes it from github.com, which cannot be reached.",
        "Try again where github.com can be reached; or install Python 3.12 or 3.13 of 64 bits, and "
        f"{BASE}.",
    ),
    _trouble(
        "no network",
        r"getaddrinfo failed|Name or service not known|Temporary failure in name resolution|nodename nor servname|"
        r"Network is unreachable|No route to host|dns error",
        "The package index cannot be reached: there is no network, or a firewall forbids it.",
        "Check the network and QGIS's Settings ▸ Options ▸ Network, then try again; or download the packages on "
        "another computer, and name their folder under Advanced ▸ Packages from.",
    ),
    _trouble(
        "stalled",
        r"gave no sign for|ReadTimeoutError|Read timed out|IncompleteRead|Connection (broken|reset|aborted)|"
        r"ConnectionResetError|RemoteDisconnected|incomplete-download",
        "A download stalled or broke off.",
        "Try again: what is downloaded already is kept.",
        passing=True,
    ),
    _trouble(
        "hashes",
        r"DO NOT MATCH THE HASHES|hash mismatch",
        "A downloaded file is not what the package index announced.",
        "Try again; if it happens again, a proxy of your network changes downloads: tell your administrator.",
        passing=True,
    ),
    _trouble(
        "folder lacks packages",
        r"--no-index.*(?:No matching distribution found for|Could not find a version that satisfies the requirement) "
        r"(?P<what>[\w.-]+)",
        "The folder of packages lacks {what}, or has it for another version, Python or system only.",
        "Download the packages again, with the version of Python and the system of this computer, or empty "
        "Advanced ▸ Packages from.",
    ),
    _trouble(
        "no wheels",
        r"No matching distribution found for (torch|torchvision|numpy)\b|no wheels? (with|for) a matching Python|"
        r"has no wheels with a matching",
        "There is no PyTorch for this Python or this kind of machine.",
        f"Install Python 3.12 or 3.13 of 64 bits, and {BASE}; new versions of Python get theirs some months later.",
    ),
    _trouble(
        "no venv",
        r"ensurepip is not available|No module named '?(venv|ensurepip|pip)\b",
        "This Python cannot make environments.",
        "On Debian and Ubuntu install python3-venv (sudo apt-get install python3-venv); elsewhere install "
        f"Python 3.12 or 3.13 of 64 bits, and {BASE}.",
    ),
    _trouble(
        "card too new",
        r"no kernel image is available|is not compatible with the current PyTorch installation",
        "The graphics card is of another generation than this build of PyTorch was made for.",
        "Build the environment again, which chooses the build by the card; until then device cpu works.",
    ),
    _trouble(
        "driver too old",
        r"driver (version )?(on your system )?is (too old|insufficient)|CUDA driver version is insufficient|"
        r"forward compatibility was attempted",
        "The graphics card's driver is too old for this build of PyTorch.",
        "Update the driver of the graphics card, then build the environment again; until then device cpu works.",
    ),
    _trouble(
        "processor too old",
        r"Illegal instruction|0xC000001D|signal 4\b",
        "This processor lacks instructions that PyTorch is built with.",
        "PyTorch needs a processor with AVX, of 2012 or newer: use another computer for training and mapping.",
    ),
    _trouble(
        "no right",
        r"Permission denied|Errno 13\b|Operation not permitted|Read-only file system|Errno 30\b",
        "You have no right to write there.",
        f"Change the permissions, or {ELSEWHERE}.",
        local=True,
    ),
)  # fmt: skip


def find_trouble(text: str) -> Optional[Trouble]:
    """The known trouble that a command and its output, or a traceback, tell of; None where it is unknown."""
    for trouble in TROUBLES:
        found = trouble.signs.search(text)
        if found is not None:
            return replace(trouble, problem=trouble.problem.format(**found.groupdict()))
    return None


def usable_certificates(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without SSL_CERT_DIR and SSL_CERT_FILE where they name what is not there.

    Some QGIS installations set them to folders of the machine that they were built on; then nothing is trusted.
    """
    gone = [name for name in ("SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
            if environment.get(name) and not Path(environment[name]).exists()]  # fmt: skip
    return {name: value for name, value in environment.items() if name not in gone}
