"""Chat templates of models that think: which answers of a row they change, and what is trained."""

from transformers import PreTrainedTokenizerFast

from tests.unit.asking.test_trained import tokenizer_of

TURN = "<|im_start|>{{ m.role }}\n"
# In the style of real ones, in our own wording
THINKING = {
    # An empty thought if it is told not to think, and before a last answer without one
    "qwen3": (
        "{% for m in messages %}{% set parts = m.content.split('</think>') %}"
        f"{TURN}{{% if m.role == 'assistant' and loop.last %}}<think>\n"
        "{{ (parts[0].split('<think>')[-1] if parts | length > 1 else '').strip() }}"
        "\n</think>\n\n{% endif %}{{ parts[-1].lstrip('\n') }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
        "{% endif %}{% endif %}"
    ),
    # A thought that the prompt begins, and that no answer has
    "r1": (
        "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>"
        "{{ m.content.split('</think>')[-1] }}"
        "{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
    ),
    # An end of its own behind the last answer
    "phi-3": (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}</s>{% endif %}"
    ),
    # Channels, and an end of its own behind the last answer
    "gpt-oss": (
        "{% for m in messages %}<|start|>{{ m.role }}"
        "{% if m.role == 'assistant' %}<|channel|>final<|message|>{% else %}<|message|>{% endif %}"
        "{{ m.content }}"
        "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
    ),
    # Two tokens at the end of every answer
    "command-r": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
        "{% if m.role == 'assistant' %}<|return|>{% endif %}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
}
# The thought that the prompt begins stands in a last answer too
THINKING["qwen3-2507"] = THINKING["qwen3"].replace(
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
    "<think>\n",
)
# The prompt begins no thought
THINKING["r1-0528"] = THINKING["r1"].replace("<|assistant|><think>\n", "<|assistant|>")
MARKS = "<|im_start|> <|im_end|> <|system|> <|user|> <|assistant|> <|end|> <|return|>".split()
CHANNELS = "<|start|> <|channel|> <|message|>".split()


def tokenizer(style: str) -> PreTrainedTokenizerFast:
    """A small tokenizer with the chat template of a style."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of("byte-level", False).backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[*MARKS, *CHANNELS],
    )
    made.chat_template = THINKING[style]
    return made
