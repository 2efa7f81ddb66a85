"""The kernel of notebooks: this process's own Python, whatever kernels are installed.

A kernel named python3 in the user's home folder may belong to another environment, and a notebook
that was saved in JupyterLab may name a kernel that is nowhere.
"""

from __future__ import annotations

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager, KernelManager

NAME = "python3"  # for papermill, which wants one


def _of_this_python() -> KernelSpec:
    return KernelSpec(**get_kernel_dict())


class Here(AsyncKernelManager):
    """Starts a kernel of this environment, for a client that waits for it asynchronously."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        return _of_this_python()


class HereWaiting(KernelManager):
    """Starts a kernel of this environment, and waits for it."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        return _of_this_python()
