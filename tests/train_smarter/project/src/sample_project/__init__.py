"""The small project that the engine's tests train: small networks, and data sets that need no download."""
