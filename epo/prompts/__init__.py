"""Prompts: ordered parts become messages and placeholders, the same in every stage."""
