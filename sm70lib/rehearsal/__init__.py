"""Rehearsals: a whole study run on small stand-in models and data, served by a local hub."""
