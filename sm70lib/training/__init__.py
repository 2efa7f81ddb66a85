"""Training stages, and the merging of what they leave."""
