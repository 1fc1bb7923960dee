import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor

from train_smarter.errors import UserError
from train_smarter.task.base import Task
from train_smarter.task.language_model import LanguageModel


def drawn(count: int = 12, padding: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits (N, 5, 7), and tokens (N, 7), of which a fifth is padding."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(25, (count, 7), generator=generator).float().sqrt().long()  # the last ones are frequent
    outputs = torch.randn(count, 5, 7, generator=generator)
    if padding is not None:
        tokens[torch.rand(count, 7, generator=generator) < 0.2] = padding
    return outputs, tokens


def flat(outputs: Tensor, tokens: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    known = tokens != padding
    return outputs.movedim(1, -1)[known], tokens[known]


@pytest.mark.parametrize("padding", [-100, 0])
def test_the_metrics_are_those_of_scikit_learn_over_the_tokens_that_count(
    measure: Callable[..., dict[str, float]], padding: int
) -> None:
    outputs, tokens = drawn(padding=padding if padding >= 0 else None)
    logits, known = flat(outputs, tokens, padding)
    loss = log_loss(known, logits.double().softmax(1), labels=range(5))
    scores = measure(LanguageModel(vocab_size=5, ignore_index=padding), outputs, tokens, [5, 1, 6])
    accuracy = accuracy_score(known, logits.argmax(1))
    assert scores == pytest.approx({"loss": loss, "perplexity": np.exp(loss), "accuracy": accuracy}, rel=1e-5)


def test_equal_logits_have_the_perplexity_of_the_vocabulary(measure: Callable[..., dict[str, float]]) -> None:
    scores = measure(LanguageModel(vocab_size=5), torch.zeros(12, 5, 7), drawn()[1])
    assert scores["perplexity"] == pytest.approx(5)
    assert scores["loss"] == pytest.approx(math.log(5))


def test_the_perplexity_is_that_of_all_tokens_and_no_mean_of_batches(
    measure: Callable[..., dict[str, float]],
) -> None:
    outputs = torch.zeros(2, 2, 1)
    outputs[0, 0] = 3.0
    tokens = torch.zeros(2, 1, dtype=torch.long)
    nll = [math.log(1 + math.exp(-3)), math.log(2)]
    scores = measure(LanguageModel(vocab_size=2), outputs, tokens, [1, 1])
    assert scores["perplexity"] == pytest.approx(math.exp(sum(nll) / 2))


@pytest.mark.parametrize("padding", [-100, 0])
def test_batches_of_uneven_size_score_as_all_at_once(measure: Callable[..., dict[str, float]], padding: int) -> None:
    outputs, tokens = drawn(padding=padding if padding >= 0 else None)
    task = LanguageModel(vocab_size=5, ignore_index=padding)
    assert measure(task, outputs, tokens, [5, 1, 6]) == pytest.approx(measure(task, outputs, tokens), rel=1e-5)


@pytest.mark.parametrize("padding", [-100, 0])
def test_the_chance_loss_is_the_least_of_a_constant(least_constant_loss: Callable[..., float], padding: int) -> None:
    _, tokens = drawn(padding=padding if padding >= 0 else None)
    task = LanguageModel(vocab_size=5, ignore_index=padding).double()
    least = least_constant_loss(task, torch.zeros(1, 5, 1), lambda constant: constant.expand(12, -1, 7), tokens)
    assert task.chance_loss(tokens) == pytest.approx(least, abs=1e-6)


def test_a_prediction_is_what_follows_the_last_token() -> None:
    outputs = torch.zeros(2, 3, 4)
    outputs[0, 2, -1], outputs[1, 0, -1] = 1.0, 2.0
    task = LanguageModel(vocab_size=3)
    prediction = task.predict(outputs)
    assert prediction["next"].tolist() == [2, 0]
    assert prediction["probabilities"].shape == (2, 3)
    columns = task.columns(prediction, ["a", "b", "c"])
    assert columns["next"] == ["c", "a"]
    assert columns["probability"] == pytest.approx([math.e / (math.e + 2), math.e**2 / (math.e**2 + 2)])
    assert task.columns(prediction, [])["next"] == ["2", "0"]


def successor(tokens: Tensor) -> Tensor:
    """A network that is sure of the token one above the last."""
    return 50.0 * torch.nn.functional.one_hot((tokens + 1) % 4, 4).mT.float()


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_sampled_tokens_follow_the_network(temperature: float) -> None:
    made = LanguageModel.generate(successor, torch.tensor([[1], [3]]), 5, temperature=temperature)
    assert made.tolist() == [[1, 2, 3, 0, 1, 2], [3, 0, 1, 2, 3, 0]]


def test_samples_have_the_frequencies_of_the_network_at_a_temperature() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    made = LanguageModel.generate(
        lambda tokens: logits[None, :, None].expand(len(tokens), -1, tokens.shape[1]),
        torch.zeros(4000, 1, dtype=torch.long),
        1,
        temperature=0.5,
        generator=generator,
    )
    shares = made[:, 1].bincount(minlength=3) / 4000
    assert shares.tolist() == pytest.approx((logits / 0.5).softmax(0).tolist(), abs=0.02)


def test_its_config_builds_it_again(rebuilt: Callable[[Task], Task]) -> None:
    outputs, tokens = drawn(padding=0)
    task = LanguageModel(vocab_size=5, ignore_index=0)
    again = rebuilt(task)
    assert again.config() == task.config()
    assert torch.equal(again.loss(outputs, tokens), task.loss(outputs, tokens))


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (torch.zeros(5, dtype=torch.long), r"int64 \(5,\), but this task needs tokens, integers \(N, T\)"),
        (torch.zeros(5, 4), r"float32 \(5, 4\), but this task needs tokens"),
        (torch.full((5, 4), 9), "a token of val is 9, but task.vocab_size=5"),
        (torch.full((5, 4), -1), "a token of val is -1, but task.vocab_size=5"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets: Tensor, told: str) -> None:
    with pytest.raises(UserError, match=told):
        LanguageModel(vocab_size=5).check(targets, "val")
