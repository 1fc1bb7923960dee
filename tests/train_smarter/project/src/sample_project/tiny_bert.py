"""A random BERT with a tokenizer of a dozen tokens, as folders of `transformers` are; padding is not id 0."""

from pathlib import Path
from typing import Any

WORDS = ["[MASK]", "the", "was", "[UNK]", "[CLS]", "[SEP]", "[PAD]", "good", "bad", "film", "not", "it", "##s", "plot"]
PAD, POSITIONS = 6, 16


def config(**changes: Any) -> Any:
    from transformers import BertConfig

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    rest: dict[str, Any] = {"vocab_size": len(WORDS), "max_position_embeddings": POSITIONS, "pad_token_id": PAD}
    rest |= {"initializer_range": 0.3}  # so large that each token shows in the outputs
    return BertConfig(**{**sizes, **rest, **changes})


def save_bert(folder: Path, *, labels: int = 2, **changes: Any) -> Path:
    """A folder with weights for a sequence classification, and a tokenizer."""
    import torch
    from transformers import BertForSequenceClassification

    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config(num_labels=labels, **changes)).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import PreTrainedTokenizerFast

    ids = {word: place for place, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    names = ("unk", "pad", "cls", "sep", "mask")
    special = {f"{name}_token": f"[{name.upper()}]" for name in names}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **special).save_pretrained(folder)
