"""Models: loading them, and asking them for likelihoods and text."""
