"""Judging: who reads an emotion from the words of a text, and how far to trust what is read."""
