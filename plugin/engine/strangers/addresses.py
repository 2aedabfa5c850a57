"""Names that lead GDAL to a server."""

from __future__ import annotations

import re
from urllib.parse import unquote

from ..errors import without_key

# What GDAL reads over the network, also inside other names, such as NETCDF:"/vsicurl/https://a.example/b.nc":x.
SERVER = re.compile(
    r"/vsi(?:curl|s3|gs|az|adls|oss|swift|webhdfs|hdfs)(?:_streaming)?[/?]|(?:https?|ftps?):"
    r"|(?<![a-z0-9])(?:s3|gs|gcs|az|adl|abfss?|wasbs?|oss|swift|hdfs|webhdfs|gltp)://"
    r"|(?:^|[:\"/{])\s*(?:WMS|WMTS|WCS|WFS3?|OAPIF(?:_COLLECTION)?|OGCAPI|CSW|NGW|EEDAI?|DAAS|PLMOSAIC|PLSCENES|STACTA"
    r"|STACIT|CARTO|AMIGOCLOUD|ES|ELASTIC|PG|POSTGRESQL|MYSQL|MSSQL|OCI|GEOR|GEORASTER|ODBC|PGEO|SDE|IDB|HANA|ADBC"
    r"|MONGODB(?:V3)?|COUCHDB|CLOUDANT|JPIPS?|HTTP):",
    re.IGNORECASE,
)
WEB = re.compile(r"https?:", re.IGNORECASE)
HOST = re.compile(r"://(?:[^/\s?#\"']*@)?([^/\s?#\"']+)")
# On Windows, the computer that a path begins with; \\?\ and \\.\ are none.
SHARE = re.compile(r"[\\/]{2}(?:[?.][\\/]UNC[\\/])?([^\\/?.][^\\/]*)[\\/]", re.IGNORECASE)


def host_asked(source: str) -> str:
    """The server that an address leads to, as shown to people; "" for a file of this computer or a text."""
    plain = unquote(source)
    if source.lstrip().startswith("<") or not SERVER.search(plain):
        return ""
    host = HOST.search(plain)
    return (host[1] if host else without_key(source))[:100]


def share_of(path: str) -> str:
    """The computer in the network that holds a file, as Windows understands a path; "" for this computer."""
    found = SHARE.match(path)
    return found[1].lower() if found else ""
