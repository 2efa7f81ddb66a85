"""Rows and documents to train on, from files and the hub."""

from sm70lib.sources.catalogue import SOURCES, about, files, read
from sm70lib.sources.hub import find, hub_folder, outside, own_file, root, shown
from sm70lib.sources.layouts import Defect, Row

__all__ = [
    "SOURCES",
    "Defect",
    "Row",
    "about",
    "files",
    "find",
    "hub_folder",
    "outside",
    "own_file",
    "read",
    "root",
    "shown",
]
