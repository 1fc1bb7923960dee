"""What text data sets share: texts are cleaned, cut into words and kept as ids; the result is cached.

Cleaning, words, vocabulary, length and padding stand inside one tokenizer object, whose JSON is kept with every run:
it alone turns new text into what the model was trained on.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import Tokenizer
from torch import Tensor

from train_smarter.data.base import Data, data_dir
from train_smarter.data.examples import SPLITS, Batch, Examples, RawDataset, RawInput, SplitName
from train_smarter.data.text_files import TextLine, read_texts
from train_smarter.data.tokenizer import build_tokenizer, load_tokenizer, set_length, train_vocab
from train_smarter.errors import UserError
from train_smarter.run.files import atomic_file

log = logging.getLogger(__name__)


TRUNCATION_SIDES = ("left", "right")
CACHE_VERSION = 3  # raise it when the code below makes something else of the same settings


class TextData(Data):
    """Texts as word ids (N, T) in memory, 0 = padding on the right, 1 = unknown; a model receives them as int64.

    `read` returns raw texts. Texts that also stand in test, and repetitions, are left out of train and validation.

    Args:
        vocab_size: ids in all, padding and unknown included; a model's embedding has exactly these rows.
        length: T, words kept of a text.
        truncation_side: which end of a longer text is cut, "left" or "right".
        dir: the data folder; the encoded texts are cached in its folder `cache`. None: there is no cache.
    """

    kind = "texts"
    has_token_inputs = True

    def __init__(
        self,
        *,
        vocab_size: int,
        max_length: int,
        truncation_side: str = "left",
        dir: str | None = None,  # noqa: A002
        **data: Any,
    ) -> None:
        super().__init__(**data)
        if truncation_side not in TRUNCATION_SIDES:
            raise UserError(
                f"data.truncation_side={truncation_side} is none of {', '.join(TRUNCATION_SIDES)}: "
                "the end of a long text that is cut"
            )
        if vocab_size < 3 or max_length < 1:
            raise UserError(f"data.vocab_size={vocab_size} must be at least 3, data.max_length={max_length} at least 1")
        self.vocab_size, self.max_length, self.truncation_side = vocab_size, max_length, truncation_side
        self.dir = None if dir is None else data_dir(dir)
        self.tokenizer_json: str | None = None  # the tokenizer, as JSON; from setup or load_preprocess on
        self.num_removed = {"in test": 0, "repeated": 0}

    # ---- what a data set may add

    def fingerprint(self) -> Any:
        """What changes when the raw texts do, as a JSON value that is quick to get; None: never cached."""
        return None

    # ---- from texts to ids and back

    @property
    def tokenizer(self) -> Tokenizer:
        assert self.tokenizer_json is not None, "the vocabulary comes from setup or load_preprocess"
        return load_tokenizer(self.tokenizer_json)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """N texts -> ids (N, T), int64; after `setup` or `load_preprocess`."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts))]
        return torch.tensor(ids, dtype=torch.long).view(-1, self.max_length)

    def decode(self, tokens: Tensor) -> str:
        """Ids (T,) -> the words that the model sees, padding left out."""
        return self.tokenizer.decode(tokens[tokens != 0].tolist(), skip_special_tokens=False)

    def split(self, source: RawDataset) -> dict[SplitName, Examples]:
        """The splits of `source`, after what stands in two places is left in one: test, else train, else validation."""
        seen = dict.fromkeys(self._cleaned(source.test), "in test")
        kept = self._dedupe(source.train, seen)
        val = None if source.val is None else source.val.take(self._dedupe(source.val, seen))
        strata, groups = (None if part is None else part[kept] for part in (source.strata, source.groups))
        return super().split(replace(source, train=source.train.take(kept), val=val, strata=strata, groups=groups))

    def _cleaned(self, examples: Examples | None) -> Iterator[str]:
        """Each text as the tokenizer cleans it, with one space for many."""
        clean = self._wordless().normalizer.normalize_str
        yield from (" ".join(clean(text).split()) for text in (examples.inputs if examples else ()))

    def _dedupe(self, examples: Examples, seen: dict[str, str]) -> Tensor:
        """Indices of the texts not `seen`, which takes them up; the others are counted by where they were seen."""
        first = []
        for i, text in enumerate(self._cleaned(examples)):
            if text in seen:
                self.num_removed[seen[text]] += 1
            else:
                first.append(i)
                seen[text] = "repeated"
        return torch.tensor(first, dtype=torch.long)

    def encode(self, splits: dict[SplitName, Examples]) -> dict[SplitName, Examples]:
        if self.tokenizer_json is None:
            tokenizer = self._wordless()
            train_vocab(tokenizer, splits["train"].inputs, vocab_size=self.vocab_size)
            self.tokenizer_json = tokenizer.to_str()
            log.info("vocabulary: %d ids in use", tokenizer.get_vocab_size())
        small = torch.int16 if self.vocab_size <= 2**15 else torch.int32
        return {name: Examples(self.encode_texts(e.inputs).to(small), e.targets) for name, e in splits.items()}

    def _wordless(self) -> Tokenizer:
        return build_tokenizer(max_length=self.max_length, truncation_side=self.truncation_side)

    # ---- a user's own input

    def iter_inputs(self, given: str) -> Iterator[TextLine]:
        """Lines: see `read_texts`."""
        return read_texts(given)

    def load_input(self, source: TextLine) -> RawInput:
        return RawInput({"line": source.number, "input": source.text}, source.text)

    # ---- what a run keeps, for a later one to treat its texts alike

    def preprocess(self) -> dict[str, Any]:
        assert self.tokenizer_json is not None, "the vocabulary comes from setup or load_preprocess"
        recorded = {
            "max_length": self.max_length,
            "truncation_side": self.truncation_side,
            "tokenizer": self.tokenizer_json,
        }
        return {**super().preprocess(), **recorded}

    def load_preprocess(self, preprocess: dict[str, Any]) -> None:
        super().load_preprocess(preprocess)
        self.max_length, self.truncation_side, self.tokenizer_json = (
            preprocess["max_length"],
            preprocess["truncation_side"],
            preprocess["tokenizer"],
        )
        self._check_vocab_size()

    def adopt_inputs(self, preprocess: dict[str, Any]) -> None:
        """The vocabulary, so that each id is the word that the weights know; length and cut stay those of these data.

        Raises:
            UserError: the texts are encoded already, by another vocabulary.
        """
        tokenizer = Tokenizer.from_str(preprocess["tokenizer"])
        set_length(tokenizer, max_length=self.max_length, truncation_side=self.truncation_side)
        if self.examples and tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise UserError(
                f"the checkpoint has another vocabulary than {type(self).__name__}, whose texts are encoded already: "
                "call data.adopt_inputs(preprocess) before setup"
            )
        self.tokenizer_json = tokenizer.to_str()
        self._check_vocab_size()

    def _check_vocab_size(self) -> None:
        if (known := self.tokenizer.get_vocab_size()) > self.vocab_size:
            raise UserError(
                f"data.vocab_size={self.vocab_size}, but the recorded tokenizer knows {known} ids: give the run's own "
                f"data.vocab_size, at least {known}"
            )

    # ---- Lightning's hooks

    def prepare_data(self) -> None:
        super().prepare_data()
        self.setup()  # writes the cache, which the other processes load

    def load(self) -> None:
        """Takes the encoded texts from the cache, or makes them and the cache."""
        files = self._cache_files()
        if any(self._load(file) for file in files):
            return
        log.info("reading and encoding the texts%s", ", once: later runs take them from the cache" if files else "")
        super().load()
        if files and self.may_download:
            self._save(files[0])

    def log_summary(self) -> None:
        super().log_summary()
        where = ", ".join(f"{count} {where}" for where, count in self.num_removed.items())
        log.info("left out of train and validation: %s", where)

    # ---- the cache

    def _cache_files(self) -> list[Path]:
        """Where the encoded texts are looked for, and, the first, where they are put."""
        if self.dir is None or (source := self.fingerprint()) is None:
            return []
        splitting = (self.val_fraction, self.test_fraction, self.folds, self.fold, self.split_seed)
        depends = (CACHE_VERSION, tokenizers.__version__, source, self.vocab_size, self._wordless().to_str(), splitting)
        # A recorded vocabulary makes a file of its own, unless the one learned here turns out to be the same.
        vocabularies = [""] if self.tokenizer_json is None else [self.tokenizer_json, ""]
        keys = [hashlib.sha256(json.dumps([*depends, v]).encode()).hexdigest()[:16] for v in vocabularies]
        return [self.dir / "cache" / f"{type(self).__name__.lower()}-{key}.pt" for key in keys]

    def _load(self, file: Path) -> bool:
        """Takes over a cache file; False where there is none, or none that can be used."""
        try:
            state = torch.load(file, weights_only=True)
            spelled = bytes(state["tokenizer"].numpy()).decode()
            if self.tokenizer_json not in (None, spelled):
                return False
            examples: dict[SplitName, Examples] = {name: Examples(*state["splits"][name]) for name in SPLITS}
            names, self.num_removed = state["names"], state["left_out"]
        except FileNotFoundError:
            return False
        except Exception as error:  # a damaged file fails in many ways, and each has the same cure
            log.warning("%s cannot be read (%s) and is written again", file, type(error).__name__)
            return False
        self.set_names(names)
        self.tokenizer_json, self.examples = spelled, examples
        return True

    def _save(self, file: Path) -> None:
        assert self.tokenizer_json is not None
        # As numbers: a long text takes longer to load than all the tokens.
        spelled = torch.frombuffer(bytearray(self.tokenizer_json.encode()), dtype=torch.uint8)
        splits = {name: (examples.inputs, examples.targets) for name, examples in self.examples.items()}
        state = {"names": self.names, "left_out": self.num_removed, "tokenizer": spelled, "splits": splits}
        try:
            with atomic_file(file, f".{os.getpid()}.part") as part:
                torch.save(state, part)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as the second
            log.warning("the texts could not be cached in %s and will be read again next time: %s", file.parent, error)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002 (Lightning's hook)
        tokens, labels = batch
        return tokens.long(), labels
