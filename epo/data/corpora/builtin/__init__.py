from epo.data.corpora.builtin.replies import rewrite_reply
from epo.data.corpora.builtin.settings import BuiltinCorpus
from epo.data.corpora.builtin.writer import write_builtin_corpus

__all__ = ["BuiltinCorpus", "rewrite_reply", "write_builtin_corpus"]
