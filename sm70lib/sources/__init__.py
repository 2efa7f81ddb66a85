"""Rows and documents to train on, from files and the hub."""

from sm70lib.sources.catalogue import (
    SOURCES,
    Defect,
    Row,
    files,
    find,
    hub_folder,
    read,
    root,
)

__all__ = ["SOURCES", "Defect", "Row", "files", "find", "hub_folder", "read", "root"]
