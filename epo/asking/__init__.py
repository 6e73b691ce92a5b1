"""Asking a chat model: questions, endpoints, and answers that are kept."""
