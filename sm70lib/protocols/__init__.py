"""Protocols: how a benchmark is asked, and how a reply is read."""

from sm70lib.protocols.catalogue import PROTOCOLS, named

__all__ = ["PROTOCOLS", "named"]
