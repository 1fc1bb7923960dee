"""The parts of fork.py. Not part of a fork."""
