"""One kernel for a whole rehearsal, so that imports are paid for once: for its stand-ins, and, as a
papermill engine, for all notebooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.manager import KernelManager
from papermill.engines import NBClientEngine, papermill_engines

from sm70lib.kernels import NAME, HereWaiting
from sm70lib.study.params import ROOT, StudyError

# A notebook leaves nothing to the next one but the modules that it imported. Modules are never
# garbage: freezing them saves the collector half a second each time.
RESET = """
import matplotlib.pyplot
matplotlib.pyplot.close("all")
%reset -f
__import__("gc").freeze()
"""
SECONDS = 600  # the kernel may take so long to answer


class WarmKernel(NBClientEngine):
    """Runs every notebook in the same kernel, and empties it before each."""

    manager: KernelManager | None = None

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
        """Called by papermill for each notebook."""
        cls.run(RESET)
        return super().execute_managed_notebook(nb_man, kernel_name, km=cls.manager, **options)

    @classmethod
    def run(cls, code: str) -> None:
        """Runs code in the kernel, and prints what it prints.

        Args:
            code: Lines of Python.

        Raises:
            StudyError: The code raised one.
            RuntimeError: The code raised another error.
        """
        client = cls._running().client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=SECONDS)
            reply = client.execute_interactive(
                code, store_history=False, timeout=SECONDS, output_hook=_print
            )
        finally:
            client.stop_channels()
        ended = reply["content"]
        if ended["status"] == "error" and ended["ename"] == StudyError.__name__:
            raise StudyError(ended["evalue"])
        if ended["status"] == "error":
            raise RuntimeError("\n".join(ended["traceback"]))

    @classmethod
    def _running(cls) -> KernelManager:
        """The kernel, which is started if it does not run."""
        if cls.manager is None or not cls.manager.is_alive():
            cls.manager = HereWaiting(kernel_name=NAME)
            cls.manager.start_kernel(extra_arguments=["--log-level=CRITICAL"], cwd=ROOT)
        return cls.manager

    @classmethod
    def stop(cls) -> None:
        """Ends the kernel, if one was started."""
        if cls.manager is not None and cls.manager.is_alive():
            cls.manager.shutdown_kernel(now=True)
        cls.manager = None


def _print(message: dict[str, Any]) -> None:
    if message["msg_type"] == "stream":
        print(message["content"]["text"], end="", flush=True)


@contextmanager
def one_kernel(fresh: bool = False) -> Iterator[None]:
    """Makes papermill run all notebooks in the warm kernel, unless each needs a fresh one.

    The warm kernel ends with this context.
    """
    cold = papermill_engines.get_engine()
    if not fresh:
        papermill_engines.register(None, WarmKernel)
    try:
        yield
    finally:
        papermill_engines.register(None, cold)
        WarmKernel.stop()
