"""A papermill engine that runs many notebooks in one kernel, so that imports are paid for once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.manager import KernelManager
from papermill.engines import NBClientEngine, papermill_engines

from sm70lib.kernels import HereWaiting

# A notebook leaves nothing to the next one but the modules that it imported. Modules are never
# garbage: freezing them saves the collector half a second each time.
RESET = """
import matplotlib.pyplot
matplotlib.pyplot.close("all")
%reset -f
__import__("gc").freeze()
"""
SECONDS = 60  # an idle kernel may take so long to answer


class WarmKernel(NBClientEngine):
    """Runs every notebook in the same kernel, and empties it before each."""

    manager: KernelManager | None = None

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
        """Called by papermill for each notebook."""
        if cls.manager is None or not cls.manager.is_alive():
            cls.manager = HereWaiting(kernel_name=kernel_name)
            cls.manager.start_kernel(extra_arguments=options.get("extra_arguments", []))
        else:
            cls._empty(cls.manager)
        return super().execute_managed_notebook(nb_man, kernel_name, km=cls.manager, **options)

    @classmethod
    def stop(cls) -> None:
        """Ends the kernel, if one was started."""
        if cls.manager is not None and cls.manager.is_alive():
            cls.manager.shutdown_kernel(now=True)
        cls.manager = None

    @staticmethod
    def _empty(manager: KernelManager) -> None:
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=SECONDS)
            client.execute_interactive(RESET, store_history=False, timeout=SECONDS)
        finally:
            client.stop_channels()


@contextmanager
def one_kernel(fresh: bool = False) -> Iterator[None]:
    """Makes papermill run all notebooks in one warm kernel, unless each needs a fresh one."""
    if fresh:
        yield
        return
    cold = papermill_engines.get_engine()
    papermill_engines.register(None, WarmKernel)
    try:
        yield
    finally:
        papermill_engines.register(None, cold)
        WarmKernel.stop()
