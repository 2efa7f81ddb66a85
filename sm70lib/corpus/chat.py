"""The template `chat`: a base's own chat template, with several turns and all answers trained.

A row's tokens are those that `tokenizer.apply_chat_template` gives for the whole conversation. Each
answer begins where the template's prompt for it ends, and ends with the template's end token. Both
places are found by writing the conversation in part or otherwise, and compared token by token.
"""

import re
from dataclasses import replace
from itertools import islice

from jinja2.exceptions import TemplateError

from sm70lib.corpus import templates
from sm70lib.corpus.tokens import IGNORED, Encoded
from sm70lib.sources import Row
from sm70lib.sources.layouts import Turns
from sm70lib.study.params import StudyError

# What the small base gets that is trained here, if its study asks for `chat`.
PLAIN = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
REMEDY = "choose a base that was tuned to chat, or the template medalpaca or sm70"
SYSTEM, QUESTION, ANSWER = ("system", "Be brief."), ("user", "Which?"), ("assistant", "This.")
ELSE = "\ue000"  # is said in an answer's stead, to find its place
LAST_ALONE = "only the last answer is trained, as the chat template changes an earlier one"


def text_of(tokenizer, remedy: str = REMEDY) -> str:
    """The text of a tokenizer's chat template; raises StudyError if rows cannot stand in it."""
    Chat(tokenizer, remedy)
    return tokenizer.get_chat_template()


def conversation(row: Row) -> Turns:
    """The turns of a row before its answer."""
    return row.turns or asked(row.instruction, row.input)


def asked(instruction: str, input: str) -> Turns:
    """One question, as its instruction and what it is asked about."""
    return (("user", "\n\n".join(filter(None, (instruction, input)))),)


class Chat:
    """The chat template of a tokenizer.

    Where a template has no place for a system line (Gemma's), the line goes in front of the first
    question.

    Args:
        tokenizer: the base's tokenizer.
        remedy: what to do without a template that fits, for the error's sentence.

    Raises:
        StudyError: it has no chat template, or one whose answers cannot be told from what stands
            around them.
    """

    def __init__(self, tokenizer, remedy: str = REMEDY):
        self.tokenizer = tokenizer
        if not templates.chat_template_of(tokenizer):
            raise self._unfit("has no chat template", remedy)
        added = tokenizer.added_tokens_decoder.values()
        marks = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
        self.special = set(tokenizer.convert_tokens_to_ids(list(marks)))
        self.marks = re.compile("|".join(map(re.escape, sorted(marks))))
        self.has_system = self._takes_a_system_line()
        whole, prompt = self.text((QUESTION, ANSWER)), self.text((QUESTION,), True)
        if not whole.startswith(prompt) or ANSWER[1] not in whole[len(prompt) :]:
            raise self._unfit("writes a question otherwise once an answer follows", remedy)
        self.ending = whole.rpartition(ANSWER[1])[2]
        if self.special.isdisjoint(self._tokens([self.ending])["input_ids"][0]):
            raise self._unfit("puts no special token at the end of an answer", remedy)
        asked = templates.asked_in_chat(tokenizer, self._messages((QUESTION,)))
        self.unthinking = whole.startswith(asked)  # not SmolLM3's, which also says it to the system

    def _unfit(self, why: str, remedy: str) -> StudyError:
        name = self.tokenizer.name_or_path
        return StudyError(f"data_template is chat, but the tokenizer of {name!r} {why}; {remedy}")

    def text(self, turns: Turns, reply_follows: bool = False) -> str:
        """The turns in the template; with `reply_follows`, up to where an answer begins."""
        return templates.in_chat(self.tokenizer, self._messages(turns), reply_follows)

    def prompt(self, turns: Turns) -> str:
        """The turns as a model is asked them: without reasoning, where a row begins so too."""
        if self.unthinking:
            return templates.asked_in_chat(self.tokenizer, self._messages(turns))
        return self.text(turns, True)

    def _messages(self, turns: Turns) -> list[dict[str, str]]:
        if turns[:1] and turns[0][0] == "system" and not self.has_system:
            turns = (("user", "\n\n".join(text for _, text in turns[:2])), *turns[2:])
        return [{"role": speaker, "content": text} for speaker, text in turns]

    def _takes_a_system_line(self) -> bool:
        self.has_system = True
        try:
            return SYSTEM[1] in self.text((SYSTEM, QUESTION), True)
        except TemplateError:
            return False

    def answer(self, turns: Turns, said: str) -> str:
        """The text of an answer as the template writes it after the turns, without its ending."""
        whole = self.text((*turns, ("assistant", said)))
        return whole.removeprefix(self.prompt(turns)).removesuffix(self.ending)

    def prompt_ids(self, turns: Turns) -> list[int]:
        """The tokens after which an answer to the turns is written."""
        return self._tokens([self.prompt(turns)])["input_ids"][0]

    def encode(
        self, rows: list[Row], max_length: int, overlong: str, loss: str
    ) -> list[Encoded | str]:
        """Encodes rows, with their labels.

        Args:
            rows: rows with a question.
            max_length: tokens of a row.
            overlong: "drop", or "cut": a longer row loses the end of its last input.
            loss: "response" (every answer with its end token), "all" (every token but the first),
                or "last" (the last answer; the row ends with its end token).

        Returns:
            For each row its tokens and labels, or why it is unusable.
        """
        seams = [self._seams(row, loss) for row in rows]
        texts = [text for each in seams if not isinstance(each, str) for text in each]
        ids = iter(self._tokens(texts)["input_ids"] if texts else [])
        made: list[Encoded | str] = []
        for row, each in zip(rows, seams):
            if isinstance(each, str):
                made.append(each)
                continue
            whole = self._labelled(list(islice(ids, len(each))), loss)
            made.append(self._fitted(row, whole, max_length, overlong, loss))
        return made

    def _seams(self, row: Row, loss: str) -> list[str] | str:
        """The whole; the texts up to and with each earlier answer; the text up to the last answer.

        Earlier ones count for the loss "response". A str says why the row cannot be written.
        """
        talk = (*conversation(row), ("assistant", row.output))
        for _, text in talk:
            if mark := self.marks.search(text):
                return f"holds the text of a special token, {mark[0]}"
        try:
            whole, prompt = self.text(talk), self.text(talk[:-1], True)
            texts = [whole]
            for number, (speaker, _) in enumerate(talk[:-1] if loss == "response" else ()):
                if speaker == "assistant":
                    texts += self._earlier(talk, number, whole)
        except TemplateError as error:
            return f"the chat template refuses it: {error!s:.80}"
        if not self._ends_in(whole, row.output):
            return "the chat template changes an answer"
        return [*texts, prompt]

    def _earlier(self, talk: Turns, number: int, whole: str) -> tuple[str, str]:
        """The text up to an answer that more turns follow, and the text with its end token.

        Where a template writes such an answer otherwise than a last one (Phi-3's, Qwen3's), it is
        what stands between the texts before and behind it, which are those of another answer too.
        If the template changes the answer itself, both are empty.
        """
        said, prompt = talk[number][1], self.text(talk[:number], True)
        last = self.text(talk[: number + 1])
        if whole.startswith(last) and last.startswith(prompt) and self._ends_in(last, said):
            return prompt, last
        otherwise = self.text((*talk[:number], ("assistant", ELSE), *talk[number + 1 :]))
        before, _, behind = otherwise.partition(ELSE)
        found = whole.removeprefix(before).removesuffix(behind)
        end = re.match(rf"\s*(?:{self.marks.pattern})", behind)
        if before + found + behind != whole or _letters(found) != _letters(said) or not end:
            return "", ""
        start = prompt if before.startswith(prompt) else before
        return start, before + found + behind[: end.end()]

    def _ends_in(self, text: str, said: str) -> bool:
        """Whether a conversation ends in an answer as it was said, but for white space."""
        return _letters(text).endswith(_letters(said + self.ending))

    def _labelled(self, ids: list[list[int]], loss: str) -> Encoded | str:
        """A row of the tokens of its seams, or why there is none."""
        whole, *seams = ids
        spans = [self._span(whole, *pair) for pair in zip(seams[::2], [*seams[1::2], whole])]
        if not spans[-1]:
            return "the chat template writes a question otherwise once an answer follows"
        if loss == "all":
            return Encoded(whole, [IGNORED, *whole[1:]])
        if loss == "last":
            whole = whole[: spans[-1].stop]
        note = "" if all(spans) else LAST_ALONE
        labels = [IGNORED] * len(whole)
        for span in spans[-1:] if note else spans:
            labels[span.start : span.stop] = whole[span.start : span.stop]
        return Encoded(whole, labels, note=note)

    def _span(self, whole: list[int], before: list[int], after: list[int]) -> range:
        """The places of an answer's tokens, with its end token; none if it is not found."""
        start, stop = len(before), len(after)
        if whole[:start] != before or whole[:stop] != after:
            return range(0)
        ends = [place for place in range(start, stop) if whole[place] in self.special]
        return range(start, ends[-1] + 1 if ends else stop)

    def _fitted(
        self, row: Row, whole: Encoded | str, max_length: int, overlong: str, loss: str
    ) -> Encoded | str:
        """The row, with less input if it is too long, or why it is unusable."""
        result = whole
        while isinstance(result, Encoded) and len(result.input_ids) > max_length:
            over = len(result.input_ids) - max_length
            shorter = self._shortened(row, over) if overlong == "cut" else None
            if shorter is None:
                return "conversation too long for data_max_length"
            row, seams = shorter, self._seams(shorter, loss)
            if isinstance(seams, str):
                return seams
            result = self._labelled(self._tokens(seams)["input_ids"], loss)
        if isinstance(whole, str) or isinstance(result, str):
            return result
        return replace(result, cut=len(whole.input_ids) - len(result.input_ids))

    def _shortened(self, row: Row, count: int) -> Row | None:
        """The row without the last `count` tokens of its last input; None if it has no more."""
        input = row.turns[-1][1] if row.turns else row.input
        offsets = self._tokens([input], return_offsets_mapping=True)["offset_mapping"][0]
        if count >= len(offsets):
            return None
        kept = input[: offsets[-count][0]].rstrip()
        if not row.turns:
            return replace(row, input=kept)
        return replace(row, turns=(*row.turns[:-1], (row.turns[-1][0], kept)))

    def _tokens(self, texts: list[str], **options):
        """The tokens of texts in which special tokens count as such, as the template wrote them."""
        return self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False, **options
        )


def _letters(text: str) -> str:
    """A text without white space, which templates may change around an answer."""
    return "".join(text.split())
