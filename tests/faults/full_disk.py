"""A trainer whose disk is full from the checkpoint of a given step on: full_disk.py STEP -m
sm70lib.training.train FOLDER.
"""

import resource
import runpy
import sys

from transformers import Trainer

sys.path.insert(0, "")  # the repository, as `python -m` has it
step, _, module, folder = sys.argv[1:]
save = Trainer._save_optimizer_and_scheduler


def on_a_full_disk(trainer, output_dir):
    """The adapter is on disk already; the optimiser's state finds room for a kilobyte."""
    if trainer.state.global_step == int(step):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    save(trainer, output_dir)


Trainer._save_optimizer_and_scheduler = on_a_full_disk
sys.argv = [module, folder]
runpy.run_module(module, run_name="__main__")
