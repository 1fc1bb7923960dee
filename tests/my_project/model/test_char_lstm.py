import torch

from my_project.model.char_lstm import CharLSTM
from train_smarter import LanguageModel

CONTRACT_OVERRIDES = ["model.hidden=16", "model.embedding_dim=8"]


def model() -> CharLSTM:
    torch.manual_seed(0)
    return CharLSTM(vocab_size=11, embedding_dim=8, hidden=16, num_layers=2, task=LanguageModel(vocab_size=11)).eval()


def test_tokens_become_logits_of_the_next_tokens() -> None:
    assert model()(torch.randint(11, (3, 7))).shape == (3, 11, 7)


def test_no_output_depends_on_a_later_token() -> None:
    tokens = torch.randint(11, (1, 7), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 4:] = (changed[0, 4:] + 1) % 11
    before, after = model()(tokens), model()(changed)
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.equal(before[:, :, 4], after[:, :, 4])
