"""The benchmark's contestants draw on a pseudo-terminal, which Windows does not have."""

import os

collect_ignore_glob = ["test_benchmark.py", "measure/*"] if os.name == "nt" else []
