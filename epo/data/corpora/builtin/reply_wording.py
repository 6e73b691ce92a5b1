"""The built-in corpus's replies: an opener that carries the emotion, then a plain sentence that carries the facts."""

import random

from epo.data.dialogue import DataError
from epo.emotions import EMOTIONS, Emotion, fitting_emotion

OPENERS: dict[Emotion, tuple[str, ...]] = {
    "angry": (
        "That is outrageous, it makes me furious to hear.",
        "I am angry about this, it is not fair.",
        "This makes my blood boil, what a disgrace.",
        "How dare they, I am truly mad about it.",
        "That is unfair, I could shout with rage now.",
        "I am furious, nobody should put up with that.",
        "What an insult, it annoys me beyond words.",
    ),
    "disgust": (
        "Yuck, that is revolting, it turns my stomach.",
        "That is so gross, I feel quite sick hearing it.",
        "Ugh, how nasty, I want to look away.",
        "What a foul thing, it is really disgusting to me.",
        "Yuck, I find that nasty and hard to bear.",
        "That is vile, it makes me feel sick.",
        "Ugh, this is gross, I would rather not touch it.",
    ),
    "fearful": (
        "Oh no, that frightens me, I am scared now.",
        "I am afraid of this, it makes me shiver.",
        "That is scary, I am worried it gets worse.",
        "Oh no, I tremble when I think of it.",
        "This makes me anxious, I am full of fear.",
        "I am terrified, what if it goes wrong.",
        "That alarms me, I feel nervous about it all.",
    ),
    "happy": (
        "How wonderful, I am so glad to hear it.",
        "That is great news, it makes me smile.",
        "I am delighted, this is lovely for you.",
        "Hooray, what a joy, I am happy with you.",
        "That is fantastic, I could dance with joy.",
        "How lovely, this cheers me up, well done.",
        "I am thrilled, it is so great to hear.",
    ),
    "neutral": (
        "I see, thank you for telling me about it.",
        "All right, I have noted what you said.",
        "Thank you, I understand what you mean by that.",
        "Okay, let us go through it step by step.",
        "I follow you, we can take our time with it.",
        "Fine, I hear you, let us look at it calmly.",
        "Understood, I am listening, please take your time.",
    ),
    "sad": (
        "I am so sorry, that sounds really painful.",
        "Oh dear, my heart aches to hear that.",
        "That is so sad, I wish I could comfort you.",
        "I am sorry for you, this must hurt a lot.",
        "It makes me sad too, you are not alone.",
        "My heart goes out to you, what a sorrow.",
        "I feel your grief, that is hard to carry alone.",
    ),
    "surprised": (
        "Wow, I did not expect that at all.",
        "Really, that is amazing, I am stunned to hear it.",
        "Goodness, what a surprise, I can hardly believe it.",
        "No way, that is astonishing, tell me more.",
        "Wow, this is so sudden, I am speechless.",
        "I am amazed, who would have thought of that.",
        "Unbelievable, that came out of the blue for me.",
    ),
}  # fmt: skip

PLACE_SENTENCES = (
    "So this is about {name}, over in {place}.",
    "You mean {name}, who is in {place}.",
    "As I recall, that was {name}, and the town was {place}.",
    "Then we are speaking of {name} in {place}.",
    "It was {name}, and {place} was the town.",
    "You told me it was {name}, there in {place}.",
)
EVENT_SENTENCES = (
    "So this is about {name} and the {event}.",
    "You mean {name}, who has the {event} ahead.",
    "As I recall, that was {name}, and it was the {event}.",
    "Then we are speaking of {name} and the {event}.",
    "It was {name}, and the {event} was the plan.",
    "You told me it was {name}, and about the {event}.",
)


def write_reply(emotion: Emotion, fact_sentence: str, rng: random.Random) -> str:
    """Put an opener of the emotion, drawn at random, before the sentence that holds the facts."""
    return f"{rng.choice(OPENERS[emotion])} {fact_sentence}"


def rewrite_reply(reply: str, emotion: Emotion, rng: random.Random) -> str:
    """Say the same content in another emotion: the opener is drawn anew, the fact sentence stays word for word.

    Raises:
        DataError: the reply does not begin with an opener of this corpus, so its content cannot be told apart.
    """
    for openers in OPENERS.values():
        for opener in openers:
            if reply.startswith(opener + " "):
                return write_reply(emotion, reply[len(opener) + 1 :], rng)
    raise DataError(
        f"reply {reply!r} was not written by the built-in corpus; "
        "use another source of counter-emotional replies for your own dialogues"
    )


def draw_reply_emotion(user: Emotion, generic_share: float, rng: random.Random) -> Emotion:
    """Draw the emotion a reply is written in: the fitting one, or with chance `generic_share` a wrong one.

    A careless reply to a turn that wants emotion is neutral (generic) with chance 4/7, else mismatched, uniform over
    what is left. To a turn that wants calm it is mismatched, uniform over the six others. So the share of neutral
    replies stays below one half even at `generic_share` 0.7, and rejected emotions with the same marginal exist.
    """
    fitting = fitting_emotion(user)
    if rng.random() >= generic_share:
        return fitting
    if fitting != "neutral" and rng.random() < 4 / 7:
        return "neutral"
    return rng.choice([emotion for emotion in EMOTIONS if emotion not in (fitting, "neutral")])
