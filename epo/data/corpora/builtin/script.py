"""Write the text of one built-in dialogue: facts told early, small talk, a neutral question, and the gold reply."""

import random
from dataclasses import dataclass

from epo.data.corpora.builtin import wording
from epo.data.corpora.builtin.reply_wording import EVENT_SENTENCES, PLACE_SENTENCES, draw_reply_emotion, write_reply
from epo.data.corpora.builtin.settings import BuiltinCorpus
from epo.data.dialogue import Dialogue, Split, Turn
from epo.emotions import EMOTIONS, Emotion

# Pairs of turns before the current one: 8 to 14 turns, 10.9 on average.
_HISTORY_PAIRS, _PAIR_WEIGHTS = (4, 5, 6, 7), (20, 30, 35, 15)


@dataclass(frozen=True)
class _Person:
    role: str
    name: str
    place: str
    event: str


def write_script(settings: BuiltinCorpus, split: Split, index: int) -> Dialogue:
    """Write a dialogue without its clips.

    Every choice is fixed by seed, split and index. No text before the reply depends on an emotion, and the
    emotions of different turns are independent, so only the current turn's clip tells how the user feels.
    """
    rng = random.Random(f"{settings.seed}/{split}/{index}")
    target, distractor = _draw_people(rng)
    history = _write_history(target, distractor, rng)
    asks_place = rng.random() < 0.5
    question = rng.choice(wording.ASK_PLACE if asks_place else wording.ASK_EVENT).format(role=target.role)
    sentence = rng.choice(PLACE_SENTENCES if asks_place else EVENT_SENTENCES)
    feeling = current_emotion(settings.seed, split, index)
    generic_share = settings.generic_share if split == "train" else 0.0
    answer = draw_reply_emotion(feeling, generic_share, rng)
    reply = write_reply(answer, sentence.format(name=target.name, place=target.place, event=target.event), rng)
    return Dialogue(
        id=f"{split}-{index:05d}",
        turns=(*history, Turn("user", question, feeling), Turn("assistant", reply, answer)),
        split=split,
        facts={len(history) + 1: (target.name, target.place if asks_place else target.event)},
    )


def current_emotion(seed: int, split: Split, index: int) -> Emotion:
    """Draw what the user feels in the current turn; each run of seven dialogues holds every emotion once."""
    block, place = divmod(index, len(EMOTIONS))
    order = list(EMOTIONS)
    random.Random(f"{seed}/{split}/block {block}").shuffle(order)
    return order[place]


def _draw_people(rng: random.Random) -> tuple[_Person, _Person]:
    """Draw the person asked about, someone close, and a distractor, someone less close; they share nothing."""
    columns = (wording.NAMES, wording.PLACES, wording.EVENTS)
    first, second = zip(*(rng.sample(column, 2) for column in columns), strict=True)
    return _Person(rng.choice(wording.CLOSE_ROLES), *first), _Person(rng.choice(wording.DISTANT_ROLES), *second)


def _write_history(target: _Person, distractor: _Person, rng: random.Random) -> list[Turn]:
    """Tell who lives where and plans what, in any order, between small talk; the last pair is always small talk."""
    num_pairs = rng.choices(_HISTORY_PAIRS, _PAIR_WEIGHTS)[0]
    told = [_tell_in_two(target, rng), _tell_distractor(distractor, rng, num_pairs)]
    fillers = num_pairs - 1 - sum(map(len, told))
    pairs = _interleave([*told, *([_small_talk(rng)] for _ in range(fillers))], rng)
    pairs.append(_small_talk(rng))
    return [turn for said, answered in pairs for turn in _pair_of_turns(said, answered, rng)]


def _tell_in_two(person: _Person, rng: random.Random) -> list[tuple[str, str]]:
    place = rng.choice(wording.TELL_PLACE), _answer(wording.ECHO_PLACE, rng)
    event = rng.choice(wording.TELL_EVENT), _answer(wording.ECHO_EVENT, rng)
    return [_fill_in(place, person), _fill_in(event, person)]


def _tell_distractor(person: _Person, rng: random.Random, num_pairs: int) -> list[tuple[str, str]]:
    """Tell it in one pair of turns where the dialogue is too short for two, and in half of the others."""
    if num_pairs > 4 and rng.random() < 0.5:
        return _tell_in_two(person, rng)
    return [_fill_in((rng.choice(wording.TELL_ALL), _answer(wording.ECHO_ALL, rng)), person)]


def _answer(echoes: tuple[str, ...], rng: random.Random) -> str:
    """Say the facts back in two answers of five, else only acknowledge them."""
    return rng.choice(echoes if rng.random() < 0.4 else wording.ACKNOWLEDGE)


def _fill_in(pair: tuple[str, str], person: _Person) -> tuple[str, str]:
    values = {"role": person.role, "name": person.name, "place": person.place, "event": person.event}
    return pair[0].format(**values), pair[1].format(**values)


def _small_talk(rng: random.Random) -> tuple[str, str]:
    food, other_food = rng.sample(wording.FOODS, 2)
    said = rng.choice(wording.FILL).format(
        thing=rng.choice(wording.THINGS),
        room=rng.choice(wording.ROOMS),
        shop=rng.choice(wording.SHOPS),
        food=food,
        food2=other_food,
    )
    return said, rng.choice(wording.ANSWER_FILL)


def _interleave(groups: list[list[tuple[str, str]]], rng: random.Random) -> list[tuple[str, str]]:
    """Shuffle the groups into one list; the order within a group stays."""
    order = [number for number, group in enumerate(groups) for _ in group]
    rng.shuffle(order)
    remaining = [iter(group) for group in groups]
    return [next(remaining[number]) for number in order]


def _pair_of_turns(said: str, answered: str, rng: random.Random) -> tuple[Turn, Turn]:
    return Turn("user", said, rng.choice(EMOTIONS)), Turn("assistant", answered, "neutral")
