"""The small project that the engine's tests train: three networks, and data sets that need no download."""
