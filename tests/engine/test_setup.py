"""What the set-up chooses for a computer, and its messages about known problems."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from heard import Heard

from plugin.engine.errors import Cancelled, ResourceError
from plugin.setup import diagnosis, machine, running, troubles
from plugin.setup.bases import MANAGED_PYTHON, choose_base
from plugin.setup.machine import Gpu, Machine, read_gpus
from plugin.setup.running import Runner
from plugin.setup.torch_builds import CPU, CUDA12, CUDA13, MAC, choose_build

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake installers are POSIX scripts")


def pc(gpu: Gpu | None = None, system: str = "linux") -> Machine:
    return Machine(system, "x86_64", gpu)


# Cards, drivers and builds


@pytest.mark.parametrize(
    ("name", "driver", "capability", "build", "note"),
    [
        ("NVIDIA RTX 5090", (580, 65), (12, 0), CUDA13, ""),
        ("NVIDIA RTX 5090", (560, 35), (12, 0), CPU, r"Install driver 580 or newer"),  # CUDA 12.6 knows no Blackwell
        ("NVIDIA RTX 3060", (581, 1), (8, 6), CUDA13, ""),
        ("NVIDIA RTX 3060", (551, 61), (8, 6), CUDA12, ""),
        ("NVIDIA RTX 3060", (470, 82), (8, 6), CPU, r"The driver 470.82 of NVIDIA RTX 3060 is too old"),
        ("NVIDIA GTX 1080", (581, 1), (6, 1), CUDA12, ""),  # older than what CUDA 13 knows
        ("NVIDIA K80", (470, 82), (3, 7), CPU, r"K80 is too old"),
        ("NVIDIA of an old driver", (450, 1), None, CPU, r"too old"),
    ],
)
def test_the_build_fits_card_and_driver(name, driver, capability, build, note):
    found = choose_build(pc(Gpu(name, driver, capability)))
    assert found.build == build and (note in found.note if note else not found.note)


def test_without_a_card_the_smallest_build_is_chosen():
    assert choose_build(pc()).build == CPU == choose_build(pc(system="win32")).build
    assert choose_build(Machine("darwin", "arm64", None)).build == MAC


def test_of_several_cards_the_newest_counts():
    text = "NVIDIA GTX 1080, 581.15, 6.1\nNVIDIA RTX 5090, 581.15, 12.0\n"
    assert read_gpus(text) == Gpu("NVIDIA RTX 5090", (581, 15), (12, 0))
    assert read_gpus("NVIDIA Tesla, 450.80.02\n") == Gpu("NVIDIA Tesla", (450, 80, 2), None)
    assert read_gpus("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n") is None
    assert read_gpus("") is None


def test_a_tool_that_hangs_or_fails_means_no_card(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho broken\nexit 9\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert machine.find_gpu() is None
    tool.write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(machine, "NVIDIA_SMI_SECONDS", 0.2)
    assert machine.find_gpu() is None


# The base


def found(version: str, *missing: str, **more: object) -> dict[str, object]:
    return {"python": version, "missing": {name: name for name in missing}, "versions": {"numpy": "1.24.2"}, **more}


def test_qgis_python_is_the_base_where_it_will_do():
    base = choose_base("/usr/bin/python3", found("3.11.2", "torch"), pc())
    assert (base.managed, base.shares, base.numpy, base.why) == (False, True, "numpy==1.24.2", "")


@pytest.mark.parametrize(
    ("what", "computer", "match"),
    [
        (found("3.9.5", "python", "torch"), pc(system="win32"), "3.9.5 is older than 3.10"),
        (found("3.12.4"), Machine("darwin", "x86_64", None, translated=True), "This QGIS is for Intel processors"),
        (found("3.11.2", bits=32), pc(system="win32"), "is a 32-bit Python"),
        (found("3.11.2", venv=False), pc(), "cannot create virtual environments"),
        (found("3.11.2", "osgeo"), pc(), "has no GDAL bindings and no package provides them"),
    ],
)
def test_where_it_will_not_do_uv_brings_another(what, computer, match):
    base = choose_base("python", what, computer)
    assert base.managed and not base.shares and match in base.why
    # Under Rosetta uv is one for Intel processors.
    assert base.version == ("cpython-3.13-macos-aarch64-none" if computer.translated else MANAGED_PYTHON)


@pytest.mark.parametrize("what", [found("3.9.5", "python"), found("3.13.1", "osgeo")])
@pytest.mark.parametrize("computer", [Machine("linux", "arm64", None), Machine("darwin", "x86_64", None)])
def test_where_no_package_brings_gdal_nothing_is_downloaded_in_vain(what, computer):
    with pytest.raises(ResourceError, match=r"no package provides them on this kind of computer.*x86_64|arm64"):
        choose_base("python", what, computer)
    assert not choose_base("python", found("3.13.1"), computer).managed


def test_the_proof_fails_without_the_formats_that_results_have(monkeypatch):
    from osgeo import gdal

    from plugin.setup.proof import read_a_raster

    real = gdal.GetDriverByName
    monkeypatch.setattr(gdal, "GetDriverByName", lambda name: None if name == "GPKG" else real(name))
    with pytest.raises(RuntimeError, match="lacks GPKG"):
        read_a_raster()


def test_a_numpy_that_is_too_old_gives_way_to_a_later_one_for_which_gdal_was_not_compiled_anew():
    too_old = {**found("3.10.12", "numpy"), "versions": {"numpy": "1.21.5"}}
    assert choose_base("python", too_old, pc()).numpy == "numpy<2"


def test_a_python_without_gdal_gets_it_as_a_package():
    base = choose_base("python", found("3.13.1", "osgeo", "torch"), pc())
    assert not base.managed and not base.shares and "gdal-wheel" in base.why


# Troubles: what installers and systems print, as users of other plugins reported it.

PRINTED = {
    "visual c++": 'OSError: [WinError 126] The specified module could not be found. Error loading "C:\\Users\\x\\torch\\lib\\c10.dll" or one of its dependencies.',  # noqa: E501
    "disk full": "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    "path too long": "ERROR: Could not install packages due to an OSError: [WinError 206] The filename or extension is too long",  # noqa: E501
    "files locked": "error: failed to rename file from C:\\uv\\.tmp to C:\\uv\\archive: Access is denied. (os error 5)",
    "proxy": "ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy Authentication Required'))",  # noqa: E501
    "tls": "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain'))",  # noqa: E501
    "no managed python": "error: Failed to download `https://github.com/astral-sh/python-build-standalone/releases/download/20261110/cpython-3.13.18.tar.gz`\n  cause: client error (Connect)\n  cause: dns error",  # noqa: E501
    "no network": "NewConnectionError('Failed to establish a new connection: [Errno 11001] getaddrinfo failed')",
    "stalled": "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool: Read timed out.",
    "hashes": "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
    "folder lacks packages": "pip install --no-index --find-links D:\\wheels torch>=2.5\nERROR: No matching distribution found for torch>=2.5",  # noqa: E501
    "no wheels": "ERROR: No matching distribution found for torch>=2.3",
    "no venv": "The virtual environment was not created successfully because ensurepip is not available.",
    "unlike builds": "RuntimeError: operator torchvision::nms does not exist",
    "card too new": "CUDA error: no kernel image is available for execution on the device",
    "driver too old": "The NVIDIA driver on your system is too old (found version 11040).",
    "processor too old": "Illegal instruction (core dumped)",
    "no right": "PermissionError: [Errno 13] Permission denied: '/opt/terrazzo'",
}


@pytest.mark.parametrize("name", [trouble.name for trouble in troubles.TROUBLES])
def test_each_trouble_is_known_by_what_is_printed(name):
    trouble = troubles.find_trouble(f"Collecting torch\n{PRINTED[name]}\n")
    assert trouble is not None and trouble.name == name
    assert trouble.problem.endswith(".") and trouble.remedy.endswith(".")


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("proxy", "tunnel error: proxy authorization required"),
        ("proxy", "tunnel error: unsuccessful"),
        ("tls", "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))"),
        ("no managed python", "operation timed out"),
    ],
)
def test_why_uv_could_not_download_a_python(name, cause):
    trouble = troubles.find_trouble(f"{PRINTED['no managed python'].rsplit(':', 1)[0]}: {cause}")
    assert trouble is not None and trouble.name == name


@pytest.mark.parametrize(
    "cause",
    [
        "NewConnectionError('Failed to establish a new connection: [Errno 111] Connection refused')",
        "NewConnectionError('Failed to establish a new connection: [WinError 10061] No connection could be made')",
        "ConnectTimeoutError('Connection to pypi.org timed out. (connect timeout=30.0)')",
    ],
)
def test_an_index_behind_a_firewall_is_not_called_an_interrupted_download(cause):
    retried = f"WARNING: Retrying (Retry(total=0)) after connection broken by '{cause}': /simple/torch/"
    trouble = troubles.find_trouble(f"{retried}\nERROR: No matching distribution found for torch>=2.5")
    assert trouble is not None and trouble.name == "no network"


def test_a_python_without_pip_cannot_make_environments_either():
    trouble = troubles.find_trouble("/usr/bin/python3: No module named pip")
    assert trouble is not None and trouble.name == "no venv"


def test_what_is_unknown_stays_unknown():
    assert troubles.find_trouble("ModuleNotFoundError: No module named 'x'") is None


def test_certificates_that_are_not_there_are_not_named(tmp_path):
    (tmp_path / "cert.pem").touch()
    given = {"SSL_CERT_DIR": "/home/builder/certs", "SSL_CERT_FILE": str(tmp_path / "cert.pem"), "PATH": "/bin"}
    assert troubles.usable_certificates(given) == {"SSL_CERT_FILE": str(tmp_path / "cert.pem"), "PATH": "/bin"}


# Running installers


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "installer"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


def test_a_passing_trouble_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "WAITS", (0.0,))
    count = tmp_path / "count"
    fails_twice = f'echo x >> {count}; test $(wc -l < {count}) -ge 3 || {{ echo "Read timed out."; exit 1; }}'
    command = script(tmp_path, fails_twice)
    reporter = Heard()
    Runner(dict(os.environ), reporter).run(command, "It failed", tries=3)
    assert len(count.read_text().split()) == 3
    assert "Trying again (3 of 3)" in "\n".join(reporter.logs)
    with pytest.raises(ResourceError, match=r"It failed. A download stalled or was interrupted. Try again"):
        Runner(dict(os.environ), reporter).run(script(tmp_path, 'echo "Read timed out."; exit 1'), "It failed", tries=2)


def test_a_trouble_that_stays_is_not_tried_again(tmp_path):
    command = script(tmp_path, f'echo x >> {tmp_path}/count; echo "No space left on device"; exit 1')
    with pytest.raises(ResourceError, match="The disk is full"):
        Runner(dict(os.environ), Heard()).run(command, "It failed", tries=3)
    assert len((tmp_path / "count").read_text().split()) == 1


def test_a_download_without_a_sign_of_life_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "STALLED", 0.5)
    monkeypatch.setattr(running, "WAITS", (0.0,))
    begun = time.monotonic()
    with pytest.raises(ResourceError, match="A download stalled or was interrupted"):
        Runner(dict(os.environ), Heard()).run(script(tmp_path, 'echo "Downloading torch"; sleep 60'), "It failed", 2)
    assert time.monotonic() - begun < 10


def test_silent_unpacking_is_not_ended_but_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "STALLED", 0.3)
    monkeypatch.setattr(running, "SIGN_OF_LIFE", 0.3)
    reporter = Heard()
    command = script(tmp_path, 'echo "Installing collected packages"; sleep 1')
    Runner(dict(os.environ), reporter).run(command, "It failed")
    assert "unpacking takes minutes if an antivirus" in "\n".join(reporter.logs)


def test_cancelling_ends_the_installer_and_its_children_within_a_second(tmp_path):
    class Impatient(Heard):
        def cancel_requested(self) -> bool:
            return time.monotonic() > begun + 0.5

    begun = time.monotonic()
    with pytest.raises(Cancelled):
        Runner(dict(os.environ), Impatient()).run(
            script(tmp_path, f"sh -c 'sleep 3; touch {tmp_path}/late' & wait"), "It failed"
        )
    assert time.monotonic() - begun < 1.6
    time.sleep(3.2)
    assert not (tmp_path / "late").exists()


def test_downloads_move_the_bar(tmp_path):
    heard: list[tuple[int, int]] = []
    command = script(tmp_path, 'echo "Progress 10 of 200"; echo "Progress 200 of 200"; echo done')
    reporter = Heard()
    tail = Runner(dict(os.environ), reporter, lambda done, total: heard.append((done, total))).run(command, "It failed")
    assert heard == [(10, 200), (200, 200)] and tail == "done" and "Progress" not in "\n".join(reporter.logs[1:])


def test_an_installer_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ResourceError, match="It failed"):
        Runner(dict(os.environ), Heard()).run([str(tmp_path / "none")], "It failed")


def test_the_proof_holds_in_the_workers_python():
    from plugin.setup.building import PROOF

    assert '"torch"' in Runner({**os.environ, "PYTHONPATH": ""}, Heard()).run([sys.executable, str(PROOF)], "It failed")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"C:\Users\Anna Müller\AppData\Local failed", r"~\AppData\Local failed"),
        (r"OSError('C:\\Users\\ANNAM~1\\AppData\\Temp\\x')", r"OSError('~\\AppData\\Temp\\x')"),
        ("file c:/users/anna/wheels and C:\\Users\\anna", "file ~/wheels and ~"),
        ("/home/anna/.cache:/Users/anna/Library PATH=/home/anna", "~/.cache:~/Library PATH=~"),
        ("/home/anna fails, not /usr/share/users/x", "~ fails, not /usr/share/users/x"),
        ("https://a/home/b", "https://a/home/b"),
    ],
)
def test_a_diagnosis_names_no_home_however_it_is_spelt(text, wanted, monkeypatch):
    monkeypatch.setattr(diagnosis.getpass, "getuser", lambda: "root")
    assert diagnosis.blanked(text) == wanted
