"""The thin library behind the notebooks. Research only: not a medical device, not for clinical use."""

import logging
import warnings

__version__ = "0.1.0"

# Said by the libraries at every start, true, and nothing that a reader of a notebook could act on.
warnings.filterwarnings("ignore", message="IProgress not found")  # no widgets here: progress is a file
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # its optional kernel needs the hub
