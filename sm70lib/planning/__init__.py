"""What every step of a study needs, worked out before anything is loaded."""
