"""Reply stream: the words of a reply as they are written, which `generate` calls a streamer."""

from collections.abc import Callable
from typing import Any


class ReplyStream:
    """Shows one reply after another, piece by piece; the pieces join to what is decoded of the whole."""

    def __init__(self, chat: Any, show: Callable[[str], None]) -> None:
        """Stand ready.

        Args:
            chat: the `ChatFormat` that decodes.
            show: takes each piece of text.
        """
        self._chat, self._show = chat, show
        self.restart()

    def restart(self) -> None:
        """Be ready for another reply, also where the one before broke off."""
        self._ids: list[int] = []
        self._shown, self._has_begun = "", False

    def put(self, ids: Any) -> None:
        """Take the prompt, and then each token as it comes."""
        if self._has_begun:
            self._ids += ids.reshape(-1).tolist()
            self._show_new(is_over=False)
        self._has_begun = True

    def end(self) -> None:
        """Show the rest, and be ready for another reply."""
        self._show_new(is_over=True)
        self.restart()

    def _show_new(self, is_over: bool) -> None:
        text = self._chat.decode(self._ids)
        if text.startswith(self._shown) and (is_over or not text.endswith("\ufffd")):  # half a character
            self._show(text[len(self._shown) :])
            self._shown = text


__all__ = ["ReplyStream"]
