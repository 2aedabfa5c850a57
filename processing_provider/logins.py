"""Logins of layers, as headers of requests, as far as QGIS's authentication database gives them."""

from __future__ import annotations

from base64 import b64encode

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QUrl
from qgis.PyQt.QtNetwork import QNetworkRequest

from ..plugin.engine.errors import InputError

# The methods of QGIS that only add headers. The tokens of others (OAuth2) change while a job runs, or QGIS keeps a
# certificate and its key.
METHODS = ("Basic", "APIHeader", "EsriToken")


def basic(user: str, password: str) -> str:
    """Return the header of a login with user and password."""
    return f"Authorization: Basic {b64encode(f'{user}:{password}'.encode()).decode('ascii')}"


def login_headers(title: str, authcfg: str, url: str) -> list[str]:
    """Return the headers that QGIS adds for an authentication configuration.

    Args:
        title: The layer's name.
        authcfg: Id of the configuration.
        url: The address that is asked.

    Raises:
        InputError: It cannot be passed on, or QGIS does not give it.
    """
    manager = QgsApplication.authManager()
    method = manager.configAuthMethodKey(authcfg)
    if method and method not in METHODS:
        raise InputError(
            f'The authentication configuration {authcfg} of the layer "{title}" is of the method {method}, which '
            f"cannot be passed to the program that reads the layer; {', '.join(METHODS)} can.",
            "Save the layer as a GeoTIFF in QGIS, and use that.",
        )
    fine, request = manager.updateNetworkRequest(QNetworkRequest(QUrl(url)), authcfg)
    names = list(request.rawHeaderList())
    if not fine or not names:
        raise InputError(
            f'QGIS does not give out the authentication configuration {authcfg} of the layer "{title}".',
            "Check it in Settings ▸ Options ▸ Authentication, and enter the master password.",
        )
    return [f"{bytes(name).decode('latin-1')}: {bytes(request.rawHeader(name)).decode('latin-1')}" for name in names]
