"""Names of devices; needs no torch."""

from __future__ import annotations

import re

from .errors import InputError


def check_device_name(name: str) -> str:
    """A device's name as torch writes it: auto, cpu, cuda or cuda:n.

    Raises:
        InputError: There is no such name.
    """
    wanted = name.strip().lower()
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        raise InputError(f'DEVICE is "{name}".', "Give auto, cpu, cuda or cuda:n (n from 0).")
    return wanted
