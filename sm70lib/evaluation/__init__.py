"""Evaluation: models answer benchmarks, and their answers are kept line by line."""
