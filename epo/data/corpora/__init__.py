"""Corpora, one module each, and what their readers share."""
