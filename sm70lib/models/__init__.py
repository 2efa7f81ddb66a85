"""Models: loading and scoring them, and planning the memory that they take."""
