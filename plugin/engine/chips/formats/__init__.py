"""Chips as other programs keep them: folders of ArcGIS, ImageNet, COCO and Pascal VOC, written and read.

A file or two a format hold what it knows; `convert.py` and `importing.py` are the two jobs. Facts about a format come
from its documents and from folders seen; none was tried with the program that it comes from.
"""
