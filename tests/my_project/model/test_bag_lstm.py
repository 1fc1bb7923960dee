from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from my_project.model.bag_lstm import BagLSTM
from train_smarter import Classification
from train_smarter.data.examples import Examples
from train_smarter.errors import UserError

SHAPES = [{"stride": p, "hash_buckets": n} for p in (1, 3) for n in (0, 50)]
TEXTS: tuple[list[int], ...] = ([5, 3, 9, 1], [7], [2, 4, 6, 8, 3, 5], [])
SMALL: dict[str, Any] = {
    "vocab_size": 10,
    "task": Classification(num_classes=2),
    "stride": 2,
    "embedding_dim": 6,
    "hidden": 5,
    "hash_buckets": 50,
    "lstm_weight": 1.0,
}
NOTHING_DROPPED = {"word_dropout": 0.0, "dropout": 0.0}


def bag_lstm(**switches: Any) -> BagLSTM:
    """Weights of the bag start alike, evidence at zero; here they are drawn, as if counted and trained."""
    torch.manual_seed(0)
    model = BagLSTM(**SMALL | switches)
    model.bag.weight.data[1:].normal_()
    model.log_count_ratio[1:].normal_()
    return model.eval()


def silent(model: BagLSTM, reader: str) -> BagLSTM:
    """The model with one reader's logits at zero."""
    for name in {"lstm": ["head.weight", "head.bias"], "bag": ["bag.weight", "bias"]}[reader]:
        model.get_parameter(name).data.zero_()
    return model


def padded(text: list[int], *, left: int = 0, right: int = 0) -> Tensor:
    return torch.tensor([[0] * left + text + [0] * right])


def test_a_small_network_has_662_parameters() -> None:
    # the bag 10 + 50 and its bias, embeddings 10 * 6, two LSTMs with 4 gates of (6 + 5) * 5 weights and 2 * 5 biases,
    # and the head 4 * 5 + 1: 61 + 60 + 520 + 21
    assert sum(p.numel() for p in bag_lstm().parameters()) == 662


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_does_not_reach_the_result(shape: dict[str, Any]) -> None:
    model = bag_lstm(**shape)
    for text in TEXTS[:3]:
        plain = model(padded(text))
        for left, right in ((0, 1), (0, 7), (1, 0), (7, 0), (3, 2)):
            torch.testing.assert_close(model(padded(text, left=left, right=right)), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_has_the_same_logit_alone_and_among_others(shape: dict[str, Any]) -> None:
    model = bag_lstm(**shape)
    together = model(torch.cat([padded(text, right=6 - len(text)) for text in TEXTS]))
    alone = torch.cat([model(padded(text, right=6 - len(text))) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_empty_text_has_a_finite_logit_and_gradient(shape: dict[str, Any]) -> None:
    model = bag_lstm(**shape)
    logit = model(padded([], right=6))
    logit.sum().backward()
    assert logit.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_bag_adds_up_the_weighted_evidence_of_words_and_pairs_each_once() -> None:
    model = silent(bag_lstm(hash_buckets=7), "lstm")
    weighted = (model.bag.weight * model.log_count_ratio)[:, 0]
    # 1,000,003 is 4 and 7,919 is 2 modulo 7: the pair 5 3 is 20 + 6 = 26, 5 modulo 7; 3 5 is 12 + 10 = 22, or 1. They
    # stand behind the 10 words; of 5 3 5 3, both words and the pair 5 3 come twice.
    expected = weighted[[5, 3, 10 + 5, 10 + 1]].sum()
    torch.testing.assert_close(model(padded([5, 3, 5, 3], right=2))[0, 0], expected, atol=1e-6, rtol=0)


def test_evidence_is_the_log_of_how_much_likelier_a_class_has_a_word() -> None:
    model = BagLSTM(**SMALL | {"hash_buckets": 0})
    texts = torch.tensor([[2, 3, 2, 0], [2, 4, 0, 0], [4, 3, 0, 0]])
    model.fit_naive_bayes(Examples(texts.short(), torch.tensor([1, 1, 0])))
    # Of 10 words, each class starts with a count of 1 each; a text counts a word once.
    positive, negative = 10 + 4, 10 + 2
    expected = torch.tensor(
        [3 / positive / (1 / negative), 2 / positive / (2 / negative), 2 / positive / (2 / negative)]
    )
    torch.testing.assert_close(model.log_count_ratio[2:5, 0], expected.log())
    torch.testing.assert_close(model.log_count_ratio[9, 0], torch.tensor(negative / positive).log())
    assert model.log_count_ratio[0] == 0


def test_with_more_classes_evidence_is_for_one_against_the_rest() -> None:
    model = silent(BagLSTM(**SMALL | {"hash_buckets": 0, "task": Classification(num_classes=3)}), "lstm").eval()
    model.fit_naive_bayes(Examples(torch.tensor([[2], [3], [4]]), torch.tensor([0, 1, 2])))
    assert model.log_count_ratio.shape == (10, 3)
    assert model.log_count_ratio[2:5].argmax(1).tolist() == [0, 1, 2]
    assert model(padded([3])).argmax() == 1


def test_evidence_is_counted_in_train_before_training_and_kept_in_the_checkpoint() -> None:
    model = BagLSTM(**SMALL)
    train = Examples(torch.tensor([[2, 3], [4, 5]]), torch.tensor([0, 1]))
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(examples={"train": train}), world_size=1)  # type: ignore[assignment]
    model.setup("test")
    assert not model.log_count_ratio.any()
    model.setup("fit")
    assert model.log_count_ratio[4] > 0 > model.log_count_ratio[2]
    assert "log_count_ratio" in model.state_dict()


def test_without_a_datamodule_there_is_nothing_to_count() -> None:
    model = BagLSTM(**SMALL)
    model._trainer = SimpleNamespace(datamodule=None)  # type: ignore[assignment]
    with pytest.raises(UserError, match="datamodule="):
        model.setup("fit")


def test_before_training_the_bag_is_naive_bayes() -> None:
    model = silent(BagLSTM(**SMALL), "lstm").eval()
    model.fit_naive_bayes(Examples(torch.tensor([[2, 3], [4, 5]]), torch.tensor([0, 1])))
    assert model(padded([4, 5])) > 0 > model(padded([2, 3]))


def test_the_lstm_reads_sums_of_words_in_both_directions() -> None:
    model = silent(bag_lstm(stride=2), "bag")
    row = model.phrases.weight
    phrases = torch.stack([row[5] + row[3], row[9]])[:, None]  # (2, 1, D)
    read = [model.forwards(phrases)[0][:, 0], model.backwards(phrases.flip(0))[0][:, 0]]
    features = torch.cat([*(r.amax(0) for r in read), *(r.mean(0) for r in read)])
    torch.testing.assert_close(model(padded([5, 3, 9], right=3))[0], model.head(features), atol=1e-6, rtol=0)


def test_order_matters_to_the_lstm_and_to_pairs_but_not_to_a_bag_of_words() -> None:
    text = padded([5, 3, 9, 1])
    lstm, pairs, words = silent(bag_lstm(), "bag"), silent(bag_lstm(), "lstm"), silent(bag_lstm(hash_buckets=0), "lstm")
    for model, matters in ((lstm, True), (pairs, True), (words, False)):
        assert torch.allclose(model(text), model(text.flip(1)), atol=1e-6) != matters


@pytest.mark.parametrize("table", ["phrases", "bag"])
def test_row_zero_is_never_trained(table: str) -> None:
    model = bag_lstm()
    model(padded([5, 3], right=2)).sum().backward()
    gradient = model.get_parameter(f"{table}.weight").grad
    assert isinstance(gradient, Tensor)
    assert not gradient[0].any()
    assert gradient.any()


def test_words_are_missed_by_the_lstm_in_training_alone() -> None:
    text = padded([5, 3, 9, 1])
    assert torch.equal(bag_lstm(word_dropout=0.9)(text), bag_lstm(**NOTHING_DROPPED)(text))
    model = bag_lstm(**NOTHING_DROPPED | {"word_dropout": 0.5}).train()
    assert len({round(value, 5) for value in model(text.expand(100, -1))[:, 0].tolist()}) > 5


def test_in_training_one_half_reaches_the_bag_and_the_other_the_lstm() -> None:
    text = padded([5, 3, 9, 1])
    bag, lstm = (silent(bag_lstm(), silenced)(text).item() for silenced in ("lstm", "bag"))
    logits = bag_lstm(**NOTHING_DROPPED).train()(text.expand(2000, -1))[:, 0]
    for expected in (bag, lstm):
        near = (logits - expected).abs() < 1e-5
        assert near.float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_afterwards_the_lstm_counts_by_its_share() -> None:
    text = padded([5, 3, 9, 1])
    bag, lstm = (silent(bag_lstm(), silenced)(text) for silenced in ("lstm", "bag"))
    torch.testing.assert_close(bag_lstm(lstm_weight=0.25)(text), bag + 0.25 * lstm)


def test_dropout_is_before_the_logits_in_training_alone() -> None:
    text = padded([5, 3, 9, 1])
    assert torch.equal(bag_lstm(dropout=0.5)(text), bag_lstm(dropout=0.0)(text))
    # With everything dropped, only the bias of the LSTM's head is left.
    everything = silent(bag_lstm(dropout=1.0), "bag").train()
    logits = everything(text.expand(50, -1))[:, 0]
    assert {round(value, 5) for value in logits.tolist()} == {0.0, round(everything.head.bias.item(), 5)}


def test_more_than_two_classes_make_a_logit_each() -> None:
    assert bag_lstm(task=Classification(num_classes=3))(padded([5, 3])).shape == (1, 3)
    assert bag_lstm()(padded([5, 3])).shape == (1, 1)
    for reader in ("bag", "lstm"):
        alone = silent(bag_lstm(task=Classification(num_classes=3)), reader)(padded([5, 3]))[0]
        assert len(set(alone.tolist())) == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stride": 0}, "model.stride=0"),
        ({"hash_buckets": -1}, "model.hash_buckets=-1"),
        ({"word_dropout": 1.0}, "model.word_dropout=1.0"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        bag_lstm(**wrong)
