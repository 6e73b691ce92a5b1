"""The built-in corpus: synthetic dialogues with drawn faces and made voices."""

from epo.data.corpora.builtin.reply_wording import rewrite_reply
from epo.data.corpora.builtin.settings import BuiltinCorpus
from epo.data.corpora.builtin.writer import plan_builtin_corpus, write_builtin_corpus

__all__ = ["BuiltinCorpus", "plan_builtin_corpus", "rewrite_reply", "write_builtin_corpus"]
