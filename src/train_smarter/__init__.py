"""Train Smarter: PyTorch Lightning trains, Hydra composes, Optuna searches, TensorBoard shows."""
