"""How a conversation becomes tokens: ChatML, and a byte-level BPE that is trained on the corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from functions.demo.corpus import Message

END_OF_TEXT: Final = "<|endoftext|>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
SPECIAL: Final = (END_OF_TEXT, START, END)

TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# llama.cpp knows this way of cutting text into words as `qwen2`: what is written into the GGUF file must agree.
_QWEN2_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Sample(NamedTuple):
    """Token ids, for each how much the model is to learn to say it (0 for what others say), and where an answer is to
    begin after it, which one it is (else -1)."""

    ids: list[int]
    learn: list[float]
    answers: list[int]


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> Tokenizer:
    """A byte-level BPE of exactly `vocabulary` tokens: any text can be written, the corpus briefly."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise ValueError(f"the corpus gives {tokenizer.get_vocab_size()} tokens, not {vocabulary}")
    return tokenizer


def encode_conversation(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    answers: Mapping[str, int],
    *,
    cut: int | None = None,
    heard: int | None = None,
) -> Sample:
    """ChatML; what is learnt is what the assistant says, and that it then ends. With `cut` the last answer is no longer
    than so many tokens: how an answer goes on is learnt soon, which answer it is to be is not. With `heard` the answers
    before it are no longer than so many, and only heard. `answers` numbers them."""
    made = Sample([], [], [])
    for place, message in enumerate(messages):
        said = message.role == "assistant"
        last = place == len(messages) - 1
        head = tokenizer.encode(f"{START}{message.role}\n").ids
        body = tokenizer.encode(message.content).ids
        end = tokenizer.encode(f"{END}\n").ids
        if said and not last and heard is not None:
            body, weights = body[:heard], [0.0] * (min(heard, len(body)) + 1)
        else:
            weights = _weights(len(body) + 1) if said else [0.0] * (len(body) + 1)
        made.ids.extend(head + body + end)
        made.learn.extend([0.0] * len(head) + weights + [0.0])
        made.answers.extend([-1] * (len(head) - 1) + [answers[message.content] if said else -1])
        made.answers.extend([-1] * (len(body) + len(end)))
    surplus = 0 if cut is None else max(0, len(body) + 1 - cut) + 1
    length = len(made.ids) - surplus
    return Sample(made.ids[:length], made.learn[:length], made.answers[:length])


def encode_completion(tokenizer: Tokenizer, question: str, answer: str, answers: Mapping[str, int]) -> Sample:
    """Plain text without roles, for `/v1/completions`: a question is continued by its answer, which ends."""
    prompt = tokenizer.encode(question).ids
    rest = tokenizer.encode(f"\n{answer}{END}").ids
    begins = [-1] * (len(prompt) - 1) + [answers[answer]] + [-1] * len(rest)
    return Sample(prompt + rest, [0.0] * len(prompt) + _weights(len(rest)), begins)


def _weights(length: int) -> list[float]:
    """The first tokens of an answer decide which answer it is, the others follow from them: so those count more."""
    return [3.0 if position < 5 else 1.0 for position in range(length)]
