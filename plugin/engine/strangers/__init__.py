"""Safe reading of untrusted files and folders.

Nothing in them may run code, crash or hang the program, fill its memory, or make it read or write elsewhere. `paths`
finds plain files inside a folder, `texts` reads JSON, XML and lines of bounded size, `images` and `indexes` open
rasters and GeoPackages with drivers that read no other file, and `crs` and `rules` check values. All untrusted data is
read through these modules, never through GDAL, json or `open` directly.
"""
