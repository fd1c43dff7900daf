"""Prompt templates, chosen by name: never guessed from a model's name.

Knows strings. A question is inserted as it is; nothing in it is ever parsed.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from encoders.errors import BackboneError, QuestionError, shown

_UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")  # Unicode categories of what leaves no mark: controls, formats, spaces


@dataclass(frozen=True)
class PromptTemplate:
    """Text before the picture, and text around the question behind it."""

    before_image: str
    before_question: str
    after_question: str

    def behind_image(self, question: str) -> str:
        """What follows the visual tokens."""
        return self.before_question + question + self.after_question


TEMPLATES: dict[str, PromptTemplate] = {
    # LLaVA-1.5's evaluation prompt (released code, conversation.py, `vicuna_v1`); MQT and M3 are evaluated with it.
    "vicuna_v1": PromptTemplate(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: ",
        "\n",
        " ASSISTANT:",
    ),
    # The nano models': nothing but the picture, the question on its line, the answer on the next.
    "nano": PromptTemplate("", "\n", "\n"),
}


def template(name: str) -> PromptTemplate:
    """The template called `name`.

    Raises:
        BackboneError: there is none.
    """
    if name not in TEMPLATES:
        raise BackboneError(f"a prompt template must be one of {sorted(TEMPLATES)}, was: {shown(name)}")
    return TEMPLATES[name]


def check_question(question: object) -> str:
    """The one gate for questions.

    Raises:
        QuestionError: not a string, nothing visible in it, or half of a character pair.
    """
    if not isinstance(question, str) or all(unicodedata.category(one) in _UNSEEN for one in question):
        raise QuestionError(f"a question must be a string with at least one visible character, was: {shown(question)}")
    return check_unicode(question, "question")


def check_list(what: str, texts: object) -> None:
    """Refuse one text where a list of them is meant: its characters would be taken one by one."""
    if isinstance(texts, str):
        raise QuestionError(f"{what} must be a list of strings, was: {shown(texts)}; write [text]")


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: it holds no lone surrogate."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


def check_unicode(text: str, what: str) -> str:
    """Refuse lone surrogates, which no tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QuestionError(
            f"the {what} must be Unicode text, was: one with a lone surrogate at {error.start}; decode it as UTF-8"
        ) from error
    return text
