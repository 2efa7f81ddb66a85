"""What is measured of a model besides its accuracy: losses, preferences, the course of training."""
