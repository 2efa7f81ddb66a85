"""The thin library behind the notebooks. Research only: not a medical device, not for clinical use."""

__version__ = "0.1.0"
