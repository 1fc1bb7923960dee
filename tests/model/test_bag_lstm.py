from typing import Any

import pytest
import torch
from torch import Tensor

from train_smarter.error import UserError
from train_smarter.model.bag_lstm import BagLSTM

SHAPES = [{"phrase": p, "pairs": n} for p in (1, 3) for n in (0, 50)]
TEXTS: tuple[list[int], ...] = ([5, 3, 9, 1], [7], [2, 4, 6, 8, 3, 5], [])
SMALL = {"vocab_size": 10, "num_classes": 2, "phrase": 2, "embedding_dim": 6, "hidden": 5, "bag_dim": 4, "pairs": 50}
NOTHING_DROPPED = {"word_dropout": 0.0, "bag_dropout": 0.0, "dropout": 0.0, "alone": 0.0}


def bag_lstm(**switches: Any) -> BagLSTM:
    """Rows of pairs start at zero; here they are drawn, as if trained."""
    torch.manual_seed(0)
    model = BagLSTM(**SMALL | switches)
    if model.pairs is not None:
        model.pairs.weight.data[1:].normal_()
    return model.eval()


def silent(model: BagLSTM, reader: str) -> BagLSTM:
    """The model with one reader's logits at zero."""
    for parameter in model.get_submodule(f"{reader}_head").parameters():
        parameter.data.zero_()
    return model


def padded(text: list[int], *, left: int = 0, right: int = 0) -> Tensor:
    return torch.tensor([[0] * left + text + [0] * right])


def test_a_small_network_has_846_parameters() -> None:
    # embeddings 10 * 6 + 10 * 4 + 50 * 4, two LSTMs with 4 gates of (6 + 5) * 5 weights and 2 * 5 biases, and the
    # heads 4 + 1 and 4 * 5 + 1: 300 + 520 + 26
    assert sum(p.numel() for p in bag_lstm().parameters()) == 846


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_does_not_reach_the_result(shape: dict[str, Any]) -> None:
    model = bag_lstm(**shape)
    for text in TEXTS[:3]:
        plain = model(padded(text))
        for left, right in ((0, 1), (0, 7), (1, 0), (7, 0), (3, 2)):
            torch.testing.assert_close(model(padded(text, left=left, right=right)), plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_has_the_same_logit_alone_and_among_others(shape: dict[str, Any]) -> None:
    model = bag_lstm(**shape)
    together = model(torch.cat([padded(text, right=6 - len(text)) for text in TEXTS]))
    alone = torch.cat([model(padded(text, right=6 - len(text))) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_empty_text_has_a_finite_logit_and_gradient(shape: dict[str, Any]) -> None:
    model = bag_lstm(**shape)
    logit = model(padded([], right=6))
    logit.sum().backward()
    assert logit.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_bag_is_the_sum_of_words_and_pairs_over_the_root_of_the_length() -> None:
    model = silent(bag_lstm(pairs=7), "lstm")
    assert model.pairs is not None
    # Pairs of 5 3 and 3 9 in rows 1 to 6: 1,000,003 is 1 and 7,919 is 5 modulo 6, so 5 + 15 = 20 is 2 and 3 + 45 = 48
    # is 0, counted from row 1.
    rows = model.words.weight[[5, 3, 9]].sum(0) + model.pairs.weight[3] + model.pairs.weight[1]
    expected = model.bag_head(rows / 3**0.5)
    torch.testing.assert_close(model(padded([5, 3, 9], right=2))[0], expected, atol=1e-6, rtol=0)


def test_the_lstm_reads_sums_of_words_in_both_directions() -> None:
    model = silent(bag_lstm(phrase=2), "bag")
    row = model.phrases.weight
    phrases = torch.stack([row[5] + row[3], row[9]])[:, None]  # (2, 1, D)
    read = [model.forwards(phrases)[0][:, 0], model.backwards(phrases.flip(0))[0][:, 0]]
    features = torch.cat([*(r.amax(0) for r in read), *(r.mean(0) for r in read)])
    torch.testing.assert_close(model(padded([5, 3, 9], right=3))[0], model.lstm_head(features), atol=1e-6, rtol=0)


def test_order_matters_to_the_lstm_and_to_pairs_but_not_to_a_bag_of_words() -> None:
    text = padded([5, 3, 9, 1])
    lstm, pairs, words = silent(bag_lstm(), "bag"), silent(bag_lstm(), "lstm"), silent(bag_lstm(pairs=0), "lstm")
    for model, matters in ((lstm, True), (pairs, True), (words, False)):
        assert torch.allclose(model(text), model(text.flip(1)), atol=1e-6) != matters


def test_a_pair_never_met_adds_nothing() -> None:
    model = BagLSTM(**SMALL)
    assert model.pairs is not None
    assert not model.pairs.weight.any()


@pytest.mark.parametrize("table", ["phrases", "words", "pairs"])
def test_row_zero_is_zeros_and_never_trained(table: str) -> None:
    model = bag_lstm()
    model(padded([5, 3], right=2)).sum().backward()
    weight = model.get_parameter(f"{table}.weight")
    assert isinstance(weight.grad, Tensor)
    assert not weight[0].any()
    assert not weight.grad[0].any()
    assert weight.grad.any()


def test_words_are_missed_in_training_alone() -> None:
    text = padded([5, 3, 9, 1])
    assert torch.equal(bag_lstm(word_dropout=0.9, bag_dropout=0.9)(text), bag_lstm(**NOTHING_DROPPED)(text))
    for reader, share in (("bag", "bag_dropout"), ("lstm", "word_dropout")):
        model = bag_lstm(**NOTHING_DROPPED | {share: 0.5}).train()
        assert len({round(model(text).item(), 5) for _ in range(20)}) > 5
        assert len({round(silent(model, reader)(text).item(), 5) for _ in range(20)}) == 1


def test_missed_words_leave_the_sum_as_it_is_on_average() -> None:
    model = bag_lstm().train()
    total = model._sum(model.words, torch.full((1, 4000), 5), count=4000, missed=0.5)[0]
    torch.testing.assert_close(total / 4000, model.words.weight[5], rtol=0.1, atol=0)


def test_some_examples_reach_one_reader_alone_in_training() -> None:
    model = bag_lstm(**NOTHING_DROPPED | {"alone": 0.3})
    text = padded([5, 3, 9, 1])
    both = model(text).item()
    lstm = silent(bag_lstm(), "bag")(text).item()
    logits = model.train()(text.expand(2000, -1))[:, 0]
    for expected, share in ((both, 0.4), (lstm, 0.3), (both - lstm, 0.3)):
        near = (logits - expected).abs() < 1e-5
        assert near.float().mean().item() == pytest.approx(share, abs=0.05)


def test_dropout_is_before_the_logits_in_training_alone() -> None:
    text = padded([5, 3, 9, 1])
    assert torch.equal(bag_lstm(dropout=0.5)(text), bag_lstm(dropout=0.0)(text))
    # With everything dropped, only the biases of both heads are left.
    everything = bag_lstm(dropout=1.0, alone=0.0).train()
    torch.testing.assert_close(everything(text)[0], everything.bag_head.bias + everything.lstm_head.bias)


def test_more_than_two_classes_make_a_logit_each() -> None:
    assert bag_lstm(num_classes=3)(padded([5, 3])).shape == (1, 3)
    assert bag_lstm()(padded([5, 3])).shape == (1, 1)
    for reader in ("bag", "lstm"):
        alone = silent(bag_lstm(num_classes=3), reader)(padded([5, 3]))[0]
        assert len(set(alone.tolist())) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alone": 0.6}, "model.alone=0.6"),
        ({"phrase": 0}, "model.phrase=0"),
        ({"pairs": 1}, "model.pairs=1"),
        ({"word_dropout": 1.0}, "model.word_dropout=1.0"),
        ({"bag_dropout": -0.1}, "model.bag_dropout=-0.1"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bag_lstm(**wrong)
