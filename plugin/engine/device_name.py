"""Names of devices; does not need torch."""

from __future__ import annotations

import re

from .errors import InputError


def check_device_name(name: str) -> str:
    """Normalise a device name to auto, cpu, cuda or cuda:n.

    Raises:
        InputError: The name is not valid.
    """
    wanted = name.strip().lower()
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        raise InputError(f'DEVICE is "{name}".', "Use auto, cpu, cuda or cuda:n (n from 0).")
    return wanted
