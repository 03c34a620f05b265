"""The words that tiny-chat's training texts are made of."""
# ruff: noqa: SIM905 - a line of words is easier to read than one each

WORDS = """
apple arm army baby ball bank basket bath bean bear bed bell belt bench berry bird blanket boat
body bone book boot bottle bowl box boy branch bread brick bridge broom brush bucket butter button
cage cake camel camera candle car card carpet carrot castle cat chain chair chalk cheese cherry
child church circle city clay clock cloud coat coffee coin comb cook copper corn cotton cow cream
crown cup curtain desk dinner doctor dog door dragon drawer dress drum duck ear earth egg engine
eye face farm feather field finger fire fish flag floor flower fly foot forest fork fox friend frog
fruit game garden gate girl glass glove goat gold grape grass hair hall hammer hand harbor hat
heart hen hill honey hook horn horse house ice iron island jacket jar jelly juice kettle key king
kitchen kite knee knife ladder lake lamp leaf lemon letter lion lip lock map market meal metal milk
mirror money monkey moon morning mountain mouse mouth music nail neck needle nest net nose nut
ocean office oil onion orange oven owl page paint paper park path pear pen pencil pepper piano
picture pig pillow pin pipe plane plant plate pocket pond pot potato prince queen rabbit radio rain
ring river road robot rock roof room root rope rose salt sand school sea seed sheep shelf ship
shirt shoe shop silver sister skin sky snake snow soap sock sofa soup spoon spring square stamp
star station stem stone store storm street sugar summer sun table tail tea teacher tent tiger
tomato tooth tower town toy train tray tree truck turtle uncle valley violin wall watch water wheel
window wing winter wolf wood wool yard zebra
""".split()
NAMES = """
Anna Ben Carl Dora Emil Fay Gus Hana Ivan Jane Karl Lena Max Nora Otto Paul Rosa Sam Tina Vera Will
Zoe Mia Leo
""".split()
CITIES = """
Rome Paris Berlin Oslo Madrid London Vienna Cairo Lima Tokyo Athens Dublin Lisbon Prague Milan
Boston
""".split()
COLOURS = "red blue green yellow black white brown pink grey purple".split()
PETS = "cat dog bird fish horse rabbit mouse goat".split()
JOBS = "baker doctor teacher farmer pilot nurse cook painter".split()
MONTHS = """
January February March April May June July August September October November December
""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
ONES = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen
""".split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()

CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Germany": "Berlin",
    "England": "London",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Russia": "Moscow",
    "Greece": "Athens",
    "Egypt": "Cairo",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Portugal": "Lisbon",
    "Ireland": "Dublin",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Kenya": "Nairobi",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Hungary": "Budapest",
    "Canada": "Ottawa",
    "Chile": "Santiago",
}
_PAIRS = """
big small, hot cold, old young, fast slow, up down, day night, open closed, full empty, rich poor,
light dark, early late, hard soft, wet dry, long short, high low, happy sad
"""
OPPOSITES = {
    word: other
    for pair in _PAIRS.split(",")
    for one, two in [pair.split()]
    for word, other in ((one, two), (two, one))
}
COLOUR_OF = {
    "grass": "green",
    "snow": "white",
    "coal": "black",
    "blood": "red",
    "milk": "white",
    "gold": "yellow",
    "the sky": "blue",
    "a lemon": "yellow",
    "a carrot": "orange",
    "a tomato": "red",
}
SOUNDS = {
    "dog": "barks",
    "cat": "meows",
    "cow": "moos",
    "duck": "quacks",
    "lion": "roars",
    "horse": "neighs",
    "pig": "grunts",
    "bee": "buzzes",
    "snake": "hisses",
    "wolf": "howls",
}
SMALL_TALK = (
    (
        ("Hello", "Hello!", "Hi", "Hi there!", "Good morning!", "Hey"),
        "Hello! How can I help you?",
    ),
    (("How are you?", "How do you do?", "Are you well?"), "I am fine, thank you."),
    (
        ("Who are you?", "What are you?", "What is your name?", "Introduce yourself."),
        "I am tiny-chat, a very small language program.",
    ),
    (("Thanks!", "Thank you.", "Thanks a lot!", "Thank you very much."), "You are welcome."),
    (("Goodbye", "Bye!", "See you!", "Good night!"), "Goodbye! See you soon."),
    (
        ("What can you do?", "Help", "What do you know?", "How can you help me?"),
        "I can add and subtract, sort numbers, count, spell words, write dates and JSON, correct "
        "a sentence, tell a story, call a tool and answer simple questions.",
    ),
    (
        ("How do you write?", "How do you work?", "What is diffusion?"),
        "I start from noise and clean up all letters at once, again and again, until the text "
        "stands still.",
    ),
)

# of sentences with a spelling mistake
NOUNS = "cat dog bird horse girl boy king fox farmer teacher mouse baby".split()
VERBS = "sleeps sits runs jumps plays sings walks waits dances hides".split()
WHERE = "on the {}|under the {}|near the {}|behind the {}|in the {}".split("|")
PLACES = "table house garden tree river bridge chair street forest kitchen school market".split()
ADJECTIVES = "small big old young happy quiet brown clever tired funny".split()

# of stories
ANIMALS = "fox cat dog bear frog owl mouse rabbit lion pig duck horse".split()
MOODS = "small brave lazy clever old young shy proud hungry merry".split()
HOMES = (
    "in a forest|by a river|under a bridge|on a hill|in a small house|near the sea|in a garden"
).split("|")
THINGS = "kite key ball box ring map bell coin lamp drum".split()
TIMES = "morning|evening|day|night|winter|summer day".split("|")
ENDS = (
    "{n} was very happy|{n} went home|{n} fell asleep|they became friends|they laughed and danced"
    "|all was well"
).split("|")
