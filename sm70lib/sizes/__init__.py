"""Sizes: the shape of a model, and the memory that it takes to load, train and score."""
