from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from my_project.data.phrases import BAD, GOOD, Phrases
from train_smarter.data.examples import SPLITS


def made(**data: int) -> Phrases:
    phrases = Phrases(vocab_size=128, max_length=12, num_classes=2, **data)
    phrases.setup()
    return phrases


@pytest.fixture(scope="module")
def phrases() -> Phrases:
    return made()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Such small matrices are fastest on one, the more so where other processes run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def counts(phrases: Phrases, name: str) -> np.ndarray:
    """How often each word stands in each phrase of a split, (N, words)."""
    inputs = phrases.examples[name].inputs.long()  # type: ignore[index]
    return torch.zeros(len(inputs), 128).scatter_add_(1, inputs, torch.ones(inputs.shape)).numpy()


def test_each_pair_has_the_same_words_in_another_order_and_both_sentiments(phrases: Phrases) -> None:
    for name in SPLITS:
        bags = counts(phrases, name)
        assert np.array_equal(bags[::2], bags[1::2])
        assert phrases.examples[name].targets.tolist() == [0, 1] * (len(bags) // 2)


def test_not_turns_the_word_after_it_around() -> None:
    train = Phrases(vocab_size=128, max_length=12, num_classes=2).read().train
    labels = dict(zip(train.inputs, train.targets.tolist(), strict=True))
    said = {text: label for text, label in labels.items() if text.startswith("the plot was not ")}
    assert len(said) > 4
    for text, label in said.items():
        denied, found = text.removeprefix("the plot was not ").split(" , it was ")
        assert (denied in BAD.split(), found in GOOD.split()) == (label == 1, label == 1)


def test_the_splits_are_disjoint_and_every_phrase_is_distinct(phrases: Phrases) -> None:
    assert [len(phrases.examples[name]) for name in SPLITS] == [3200, 400, 400]
    rows = torch.cat([phrases.examples[name].inputs for name in SPLITS])
    assert len(rows.unique(dim=0)) == 4000
    assert phrases.num_removed == {"in test": 0, "repeated": 0}


def test_every_word_is_known_and_every_phrase_fits(phrases: Phrases) -> None:
    rows = torch.cat([phrases.examples[name].inputs for name in SPLITS])
    assert not (rows == 1).any()
    assert not rows[:, -1].any()  # no phrase is cut


def test_no_seed_changes_the_data_set(phrases: Phrases) -> None:
    other = made(split_seed=7, seed=7)
    assert torch.equal(other.examples["test"].inputs, phrases.examples["test"].inputs)


def test_a_bag_of_words_cannot_tell_the_sentiment(phrases: Phrases) -> None:
    labels = {name: phrases.examples[name].targets.numpy() for name in SPLITS}
    linear = LogisticRegression(max_iter=200).fit(counts(phrases, "train"), labels["train"])
    assert linear.score(counts(phrases, "test"), labels["test"]) < 0.6


@pytest.mark.usefixtures("one_thread")
def test_an_lstm_tells_the_sentiment_within_seconds(phrases: Phrases) -> None:
    torch.manual_seed(0)
    embedding, lstm = torch.nn.Embedding(128, 64), torch.nn.LSTM(64, 128, batch_first=True)
    head = torch.nn.Linear(128, 2)
    network = torch.nn.ModuleList([embedding, lstm, head])

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        features = lstm(embedding(tokens.long()))[0].amax(1)  # (B, D)
        return head(features)  # type: ignore[no-any-return]

    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(3):
        for tokens, labels in phrases.train_dataloader():
            loss = torch.nn.functional.cross_entropy(logits(tokens), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    test = phrases.examples["test"]
    assert (logits(test.inputs).argmax(1) == test.targets).float().mean() > 0.95
