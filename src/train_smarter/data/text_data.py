"""What text data sets share: texts are cleaned, cut into words and kept as ids; the result is cached.

Cleaning, words, vocabulary, length and padding stand inside one tokenizer object, whose JSON is kept with every run:
it alone turns new text into what the model was trained on. A pretrained model brings its own tokenizer.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
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
from train_smarter.data.token_rows import TokenRows
from train_smarter.data.tokenizer import (
    build_tokenizer,
    load_pretrained_tokenizer,
    load_tokenizer,
    set_length,
    train_vocab,
)
from train_smarter.errors import UserError
from train_smarter.run.files import atomic_file

log = logging.getLogger(__name__)


TRUNCATION_SIDES = ("left", "right")
AT_ONCE = 4096  # texts that are encoded together; an encoding takes far more memory than its ids
CACHE_VERSION = 3  # raise it when the code below makes something else of the same settings


class TextData(Data):
    """Texts as word ids (N, T) in memory, 0 = padding on the right, 1 = unknown; a model receives them as int64.

    With `tokenizer`, texts are `TokenRows` instead: a model receives a dict of ids and mask, padded a batch at a time.

    `read` returns raw texts. Texts that also stand in test, and repetitions, are left out of train and validation.

    Args:
        vocab_size: ids in all, padding and unknown included; a model's embedding has exactly these rows. None: those of
            `tokenizer`.
        length: T, words kept of a text.
        truncation_side: which end of a longer text is cut, "left" or "right".
        tokenizer: of a pretrained model, a folder or a name on the hub; None: one is trained on these texts.
        dir: the data folder; the encoded texts are cached in its folder `cache`. None: there is no cache.
    """

    kind = "texts"
    has_token_inputs = True

    def __init__(
        self,
        *,
        vocab_size: int | None,
        max_length: int,
        truncation_side: str = "left",
        tokenizer: str | None = None,
        dir: str | None = None,  # noqa: A002
        **data: Any,
    ) -> None:
        super().__init__(**data)
        if truncation_side not in TRUNCATION_SIDES:
            raise UserError(
                f"data.truncation_side={truncation_side} is none of {', '.join(TRUNCATION_SIDES)}: "
                "the end of a long text that is cut"
            )
        if (tokenizer is None and (vocab_size is None or vocab_size < 3)) or max_length < 1:
            raise UserError(f"data.vocab_size={vocab_size} must be at least 3, data.max_length={max_length} at least 1")
        self.pretrained_tokenizer = tokenizer
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

    @property
    def _pad_id(self) -> int:
        """Of padding, as the tokenizer records it."""
        return int((self.tokenizer.padding or {})["pad_id"])

    def encode_texts(self, texts: Sequence[str]) -> Any:
        """N texts -> ids (N, T), int64, or the dict of `TokenRows`; after `setup` or `load_preprocess`."""
        rows = self._encode(texts)
        return rows.read() if isinstance(rows, TokenRows) else rows.long()

    def _encode(self, texts: Sequence[str]) -> Tensor | TokenRows:
        """As they are held in memory."""
        tokenizer = self.tokenizer
        small = torch.int16 if (self.vocab_size or tokenizer.get_vocab_size()) <= 2**15 else torch.int32
        if self.pretrained_tokenizer is None:
            ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
            return torch.tensor(ids, dtype=small).view(-1, self.max_length)
        tokenizer = Tokenizer.from_str(tokenizer.to_str())
        tokenizer.no_padding()  # up to the longest text of the split, which `TokenRows` leaves to the batches
        encoded = (
            one.ids
            for start in range(0, len(texts), AT_ONCE)
            for one in tokenizer.encode_batch_fast(list(texts[start : start + AT_ONCE]))
        )
        return TokenRows.from_ids(encoded, self._pad_id, dtype=small)

    def decode(self, tokens: Tensor | Mapping[str, Tensor]) -> str:
        """Ids (T,), or an example of `TokenRows` -> the words that the model sees, padding left out."""
        if isinstance(tokens, Mapping):
            ids = tokens["input_ids"][tokens["attention_mask"] != 0]
            return self.tokenizer.decode(ids.tolist(), skip_special_tokens=True)
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
            assert self.vocab_size is not None
            tokenizer = self._wordless()
            train_vocab(tokenizer, splits["train"].inputs, vocab_size=self.vocab_size)
            self.tokenizer_json = tokenizer.to_str()
            log.info("vocabulary: %d ids in use", tokenizer.get_vocab_size())
        return {name: Examples(self._encode(e.inputs), e.targets) for name, e in splits.items()}

    def _wordless(self) -> Tokenizer:
        return build_tokenizer(max_length=self.max_length, truncation_side=self.truncation_side)

    # ---- a user's own input

    def iter_inputs(self, given: str) -> Iterator[TextLine]:
        """Lines: see `read_texts`."""
        return read_texts(given)

    def load_input(self, source: TextLine) -> RawInput:
        return RawInput({"line": source.number, "input": source.text}, source.text)

    def collate(self, contents: Sequence[str]) -> Batch:
        rows = self._encode(contents)
        return rows.read() if isinstance(rows, TokenRows) else rows, None

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
        if self.pretrained_tokenizer is None:
            set_length(tokenizer, max_length=self.max_length, truncation_side=self.truncation_side)
        else:
            tokenizer.enable_truncation(self.max_length, direction=self.truncation_side)
        if self.examples and tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise UserError(
                f"the checkpoint has another vocabulary than {type(self).__name__}, whose texts are encoded already: "
                "call data.adopt_inputs(preprocess) before setup"
            )
        self.tokenizer_json = tokenizer.to_str()
        self._check_vocab_size()

    def _check_vocab_size(self) -> None:
        if self.vocab_size is not None and (known := self.tokenizer.get_vocab_size()) > self.vocab_size:
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
        if self.pretrained_tokenizer is not None and self.tokenizer_json is None:
            self._load_pretrained_tokenizer(self.pretrained_tokenizer)
        files = self._cache_files()
        if any(self._load(file) for file in files):
            return
        log.info("reading and encoding the texts%s", ", once: later runs take them from the cache" if files else "")
        super().load()
        if files and self.may_download:
            self._save(files[0])

    def _load_pretrained_tokenizer(self, name: str) -> None:
        tokenizer = load_pretrained_tokenizer(
            name, max_length=self.max_length, truncation_side=self.truncation_side, download=self.may_download
        )
        self.max_length = int((tokenizer.truncation or {})["max_length"])
        self.tokenizer_json = tokenizer.to_str()

    def fits_on(self, device: torch.device) -> bool:
        """Texts of different lengths stay in main memory: their batches are small, and padded there."""
        return self.pretrained_tokenizer is None and super().fits_on(device)

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
        if self.pretrained_tokenizer is not None:
            vocabularies = vocabularies[:1]
        keys = [hashlib.sha256(json.dumps([*depends, v]).encode()).hexdigest()[:16] for v in vocabularies]
        return [self.dir / "cache" / f"{type(self).__name__.lower()}-{key}.pt" for key in keys]

    def _load(self, file: Path) -> bool:
        """Takes over a cache file; False where there is none, or none that can be used."""
        try:
            state = torch.load(file, weights_only=True)
            spelled = bytes(state["tokenizer"].numpy()).decode()
            if self.tokenizer_json not in (None, spelled):
                return False
            examples = {name: self._unpack(*state["splits"][name]) for name in SPLITS}
            names, self.num_removed = state["names"], state["left_out"]
        except FileNotFoundError:
            return False
        except Exception as error:  # a damaged file fails in many ways, and each has the same cure
            log.warning("%s cannot be read (%s) and is written again", file, type(error).__name__)
            return False
        self.set_names(names)
        self.tokenizer_json, self.examples = spelled, examples
        return True

    def _unpack(self, inputs: Any, targets: Any) -> Examples:
        if self.pretrained_tokenizer is None:
            return Examples(inputs, targets)
        flat, offsets = inputs
        return Examples(TokenRows(flat, offsets, self._pad_id), targets)

    def _save(self, file: Path) -> None:
        assert self.tokenizer_json is not None
        # As numbers: a long text takes longer to load than all the tokens.
        spelled = torch.frombuffer(bytearray(self.tokenizer_json.encode()), dtype=torch.uint8)
        splits = {name: (_pack(examples.inputs), examples.targets) for name, examples in self.examples.items()}
        state = {"names": self.names, "left_out": self.num_removed, "tokenizer": spelled, "splits": splits}
        try:
            with atomic_file(file, f".{os.getpid()}.part") as part:
                torch.save(state, part)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as the second
            log.warning("the texts could not be cached in %s and will be read again next time: %s", file.parent, error)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:  # noqa: ARG002 (Lightning's hook)
        tokens, labels = batch
        return (tokens if isinstance(tokens, Mapping) else tokens.long()), labels


def _pack(inputs: Tensor | TokenRows) -> Any:
    """What a cache file holds of the inputs of a split: tensors alone."""
    return (inputs.flat, inputs.offsets) if isinstance(inputs, TokenRows) else inputs
