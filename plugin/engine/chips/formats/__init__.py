"""Chip formats of other programs, read and written: ArcGIS, ImageNet, COCO and Pascal VOC.

Each format has one or two files; `convert.py` and `importing.py` are the jobs. The formats follow their documentation
and folders found in use. None was tested with the original program.
"""
