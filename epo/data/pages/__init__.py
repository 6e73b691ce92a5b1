"""Pages of a corpus for people: dialogues with what plays, descriptions with tables."""
