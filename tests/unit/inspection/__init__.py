"""Tests of what is looked at before a model is loaded."""
