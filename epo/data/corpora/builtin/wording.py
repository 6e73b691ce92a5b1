"""What the built-in corpus's people talk about: names, places, events, and sentences that betray no emotion."""

NAMES = (
    "Alexis", "Amari", "Ariel", "Bao", "Casey", "Cleo", "Dakota", "Devon", "Ellis", "Emery", "Finley", "Harper",
    "Hayden", "Imani", "Jules", "Kendall", "Lennox", "Marley", "Mika", "Nilay", "Noor", "Parker", "Quinn", "Remy",
    "Robin", "Rowan", "Sasha", "Skyler", "Tatum", "Toni", "Wren", "Yuki",
)  # fmt: skip
PLACES = (
    "Bergen", "Boston", "Cairo", "Denver", "Dublin", "Geneva", "Hanoi", "Havana", "Krakow", "Kyoto", "Leeds", "Lima",
    "Lisbon", "Nairobi", "Naples", "Oslo", "Perth", "Porto", "Quito", "Riga", "Seville", "Tallinn", "Vienna", "Zagreb",
)  # fmt: skip
EVENTS = (
    "auction", "audition", "banquet", "concert", "contest", "festival", "interview", "lecture", "marathon", "parade",
    "picnic", "recital", "regatta", "rehearsal", "reunion", "seminar", "tournament", "voyage", "wedding", "workshop",
)  # fmt: skip
# The current turn asks about someone close; someone less close, with another name, place and event, distracts.
CLOSE_ROLES = ("sister", "brother", "friend", "cousin")
DISTANT_ROLES = ("neighbour", "colleague", "teacher", "doctor")

TELL_PLACE = (
    "My {role} is called {name} and has been living in {place} since the start of the year.",
    "I talked to my {role} {name} on the phone today, who works in {place} at the moment.",
    "Let me tell you about my {role} {name}, who moved to {place} some time ago.",
    "You should know that my {role} {name} rents a small flat in {place} these days.",
    "There is also my {role} {name}, who spends most of the week in {place} for work.",
    "I have a {role} named {name}, who took a room in {place} not long ago.",
)
TELL_EVENT = (
    "My {role} {name} is getting ready for the {event} and works on it nearly every day.",
    "This month my {role} {name} is busy with the {event}, which takes up most evenings.",
    "My {role} {name} signed up for the {event} and asked me to help with the papers.",
    "Next week there is the {event}, and my {role} {name} has to be there quite early.",
    "On the calendar of my {role} {name} the {event} is marked for the end of the month.",
    "My {role} {name} wrote to me about the {event} and sent me a list of things to bring.",
)
TELL_ALL = (
    "My {role} {name} came over from {place} today and spoke about the {event} for an hour.",
    "Then there is my {role} {name}, who lives in {place} and takes part in the {event}.",
    "I got a letter from {place}, where my {role} {name} is getting ready for the {event}.",
    "My {role} is named {name}, stays in {place} for now, and is busy with the {event}.",
)
ECHO_PLACE = (
    "So {name} is in {place}, I will keep that in mind for later on.",
    "Your {role} {name} in {place}, all right, I have made a note of that.",
    "{name}, your {role}, and the town is {place}, thank you, please go on with it.",
)
ECHO_EVENT = (
    "So the {event} is what {name} has in mind, I will remember that for later on.",
    "The {event}, all right, I have made a note that your {role} {name} takes part in it.",
    "Thank you, so {name} has the {event} to think of, please go on with it.",
)
ECHO_ALL = (
    "So {name} is in {place} and has the {event} to think of, I will keep that in mind.",
    "Your {role} {name}, the town {place} and the {event}, all right, I have made a note.",
)
ACKNOWLEDGE = (
    "Thanks, that is good to know, please go on whenever you like and take your time.",
    "All right, I will keep that in mind while we talk about the rest of it.",
    "I have made a note of that, is there anything else that I should know about it?",
    "That is clear to me now, tell me a little more when you have the time.",
    "Good to know, I will come back to it later if you want me to do so.",
)
FILL = (
    "I moved the {thing} to the other side of the {room}, where there is a bit more light.",
    "In the morning I cleaned the {room} and put the {thing} back where it was before.",
    "The bus to the {shop} runs every ten minutes now, so I left the bicycle at home.",
    "I went to the {shop} to buy a {thing}, and it took about half an hour in all.",
    "For dinner I will cook {food} with some {food2}, as there is still enough of it at home.",
    "The weather is mild today, with some clouds, and the window in the {room} is open.",
    "I read a few pages about {food} in a book that was lying on the {thing} in the {room}.",
    "They changed the opening hours of the {shop}, and it now closes at six on most days.",
    "I wrote a short list for the {shop}, with {food}, {food2} and a few other small things.",
    "The man from the {shop} came by at noon and looked at the {thing} in the {room}.",
)
ANSWER_FILL = (
    "That makes sense, a day like that has its own order and one thing follows the other.",
    "I see, and did you do the rest of it in the same way as you did before?",
    "All right, then that is done for today, what is the next thing on the list?",
    "That is one way to do it, others would start with the window or with the door.",
    "Okay, it is good to have such things in order before the week comes to an end.",
    "Many people do it like that, and most of the time it works out as planned.",
)
THINGS = ("lamp", "table", "chair", "shelf", "carpet", "clock", "radio", "basket")
ROOMS = ("kitchen", "hall", "office", "cellar", "garage", "bedroom")
SHOPS = ("library", "bakery", "market", "bank", "station", "post office")
FOODS = ("rice", "beans", "soup", "bread", "noodles", "carrots", "apples", "onions")

ASK_PLACE = (
    "I had a call from my {role} again, do you still know who that is and in which town?",
    "Today I got a message from my {role}, so tell me again the name and the town.",
    "It is about my {role} this time, what was the name and where was it?",
    "I just came from a talk with my {role}, can you say the name and the place again?",
    "This is what my {role} told me on the phone, you know who that is and in what town.",
    "There is something new from my {role}, do you recall the name and which town it was?",
)
ASK_EVENT = (
    "I had a call from my {role} again, do you still know who that is and for which plan?",
    "Today I got a message from my {role}, so tell me again the name and the plan.",
    "It is about my {role} this time, what was the name and what was coming up?",
    "I just came from a talk with my {role}, can you say the name and the plan again?",
    "This is what my {role} told me on the phone, you know who that is and what is planned.",
    "There is something new from my {role}, do you recall the name and what was coming up?",
)
