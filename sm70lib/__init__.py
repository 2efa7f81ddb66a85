"""The library behind the notebooks. Research only: not a medical device, not for clinical use."""

import gc
import logging
import os
import warnings

__version__ = "0.1.0"

# Imports make millions of objects and no garbage. Looking for it after every 700 of them, which is
# the default, makes importing what a trainer needs take 5.8 s instead of 5.0.
gc.set_threshold(10_000)

# Threads must wait without spinning, and this must be set before torch is loaded. Beside two other
# busy processes on two cores, the tiny study then trained at 5.2 steps a second instead of 0.7.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The libraries print these messages at every start. A reader of a notebook cannot act on them.
# There are no widgets here, because progress is written to a file:
warnings.filterwarnings("ignore", message="IProgress not found")
warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
# Its optional kernel needs the hub:
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
