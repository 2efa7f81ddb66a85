"""Training in stages, and merging the trained adapter into a base."""
