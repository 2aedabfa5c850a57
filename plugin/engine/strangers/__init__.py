"""The one way to what comes from strangers: their folders and files, of which nothing is trusted.

Nothing there may run, crash or hang the program, fill its memory, or make it read or write elsewhere. `paths` says
what lies inside a folder and is a plain file, `texts` reads JSON, XML and lines of bounded size, `images` and
`indexes` open rasters and GeoPackages with drivers that read no other file, `crs` and `rules` check what was read.
Whoever needs anything from a stranger asks here and never GDAL, json or `open` directly.
"""
