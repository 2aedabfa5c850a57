"""QGIS's proxy, for the programs that Terrazzo starts."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from qgis.core import QgsApplication, QgsAuthMethodConfig, QgsSettings


def qgis_proxy() -> dict[str, str]:
    """Return QGIS's proxy (Settings ▸ Options ▸ Network) as the variables that installers and GDAL read; {} if none is
    set.
    """
    settings = QgsSettings()
    if not settings.value("proxy/proxyEnabled", False, type=bool):
        return {}
    host, port = settings.value("proxy/proxyHost", ""), settings.value("proxy/proxyPort", "")
    kind = {"HttpProxy": "http", "HttpCachingProxy": "http", "Socks5Proxy": "socks5"}.get(
        settings.value("proxy/proxyType", "")
    )
    if not host or kind is None:  # the system's own settings, which installers read themselves
        return {}
    user, password = settings.value("proxy/proxyUser", ""), settings.value("proxy/proxyPassword", "")
    stored = settings.value("proxy/authcfg", "")
    if stored:
        config = QgsAuthMethodConfig()
        if QgsApplication.authManager().loadAuthenticationConfig(stored, config, True):
            user, password = config.config("username"), config.config("password")
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    address = f"{kind}://{login}{host}{f':{port}' if port else ''}"
    excluded = ",".join(map(_host, settings.value("proxy/noProxyUrls", [], type=list) or []))
    found = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "GDAL_HTTP_PROXY": address}
    if login:
        found["GDAL_PROXY_AUTH"] = "ANY"
    return {**found, "NO_PROXY": excluded} if excluded else found


def _host(url: str) -> str:
    """The host of an address without proxy, which QGIS writes as the beginning of a URL."""
    return (urlsplit(url).hostname if "://" in url else url.partition("/")[0]) or url
