"""Tokenizers: trained on the texts of a run, or those of pretrained models."""

import logging
from collections.abc import Sequence
from functools import lru_cache

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import NFKC, Lowercase, Replace
from tokenizers.normalizers import Sequence as Steps
from tokenizers.pre_tokenizers import Split
from tokenizers.trainers import WordLevelTrainer

from train_smarter.data.hub import hub_access, import_extra
from train_smarter.errors import UserError

log = logging.getLogger(__name__)

# Ids 0 and 1. No text can spell them: the words are lower case and have no brackets.
PADDING, UNKNOWN = "[PAD]", "[UNK]"


def build_tokenizer(*, max_length: int, truncation_side: str) -> Tokenizer:
    """A tokenizer that cleans, finds the words, cuts and pads to `max_length`, but knows no word yet."""
    tokenizer = Tokenizer(WordLevel({PADDING: 0, UNKNOWN: 1}, unk_token=UNKNOWN))
    tokenizer.normalizer = Steps(
        [
            Replace(Regex(r"<[!/a-zA-Z][^<>]*>"), " "),  # HTML: <br />, </p>; not "I <3 it"
            Replace(Regex(r"&(apos|[lr]squo|#0*39|#x0*27|#821[67]);"), "'"),
            Replace(Regex(r"&#?\w+;"), " "),  # of the other entities, most separate words
            Replace(Regex("[`\u00b4\u2018\u2019\u0091\u0092]"), "'"),  # apostrophes, Windows' own two among them
            NFKC(),  # one code point for one character, whichever way it was typed
            Lowercase(),
        ]
    )
    # Letters and digits, apostrophes within a word ("don't"); everything between is left out.
    word = r"[\p{L}\p{N}][\p{L}\p{N}\p{M}]*"
    tokenizer.pre_tokenizer = Split(Regex(f"{word}('{word})*"), behavior="removed", invert=True)
    set_length(tokenizer, max_length=max_length, truncation_side=truncation_side)
    return tokenizer


def set_length(tokenizer: Tokenizer, *, max_length: int, truncation_side: str) -> None:
    """Cut and pad every text to `max_length` words."""
    tokenizer.enable_truncation(max_length, direction=truncation_side)
    tokenizer.enable_padding(length=max_length, pad_id=0, pad_token=PADDING, direction="right")


def train_vocab(tokenizer: Tokenizer, texts: Sequence[str], *, vocab_size: int) -> None:
    """Gives the tokenizer the texts' most frequent words (ties: by alphabet), `vocab_size` ids with the first two."""
    words = Tokenizer(WordLevel({}, unk_token=UNKNOWN))
    words.normalizer, words.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    # Not as the trainer's special tokens: those would be found in raw text as well.
    trainer = WordLevelTrainer(vocab_size=vocab_size - 2, special_tokens=[], show_progress=False)
    words.train_from_iterator(texts, trainer)
    ids = {word: place + 2 for word, place in words.get_vocab().items()}
    tokenizer.model = WordLevel({PADDING: 0, UNKNOWN: 1, **ids}, unk_token=UNKNOWN)


def load_pretrained_tokenizer(name: str, *, max_length: int, truncation_side: str, download: bool) -> Tokenizer:
    """The tokenizer of a pretrained model, which cuts to `max_length` tokens and pads to the longest text of a batch.

    Args:
        name: a folder, or a name on the hub.
        download: see `hub_access`.

    Raises:
        UserError: there is none, or it is not a fast one.
    """
    transformers = import_extra("transformers", f"data.tokenizer={name}")
    with hub_access("data.tokenizer", name, download=download):
        found = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if not found.is_fast:
        raise UserError(f"data.tokenizer={name}: {type(found).__name__} has no fast version; give another model")
    padding = found.pad_token or found.eos_token
    if padding is None:
        raise UserError(f"data.tokenizer={name} has neither a padding token nor an end token; give another model")
    if found.model_max_length < max_length:
        log.info("texts are cut to the %d tokens of %s, not to %d", found.model_max_length, name, max_length)
    tokenizer = Tokenizer.from_str(found.backend_tokenizer.to_str())
    tokenizer.enable_truncation(min(max_length, found.model_max_length), direction=truncation_side)
    tokenizer.enable_padding(pad_id=found.convert_tokens_to_ids(padding), pad_token=padding)
    return tokenizer


@lru_cache(maxsize=1)
def load_tokenizer(spelled: str) -> Tokenizer:
    """Made when it is first needed: a run whose texts are cached trains without it."""
    return Tokenizer.from_str(spelled)
