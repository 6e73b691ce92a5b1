"""Dialogues and their media: reading, checking, splitting, describing and showing them."""
