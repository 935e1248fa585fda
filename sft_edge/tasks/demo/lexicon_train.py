"""Words of the training part: subjects, adjectives and verdicts by polarity.

Every list is a block of text, one entry a line or entries parted by commas.  The
facts lie in ``facts_train``.
"""

from .facts_train import FACTS as FACTS

SUBJECTS: dict[str, str] = {
    "kitchen": """
        kettle: handle, lid, spout
        toaster: buttons, cord
        blender: motor, blades, lid, buttons
        frying pan: handle, coating
        saucepan: handle, lid
        spice grinder: motor, blades, lid
        tin opener: handle, blades
        carving knife: handle, blade
        lunch box: lid, hinges
        set/mixing bowls: rim
        """,
    "electronics": """
        charger: cord, plug
        speaker: sound, buttons, battery
        tablet: screen, battery, buttons, instructions
        keyboard: keys, cord
        camera: picture, battery, menu, instructions
        router: signal, setup, instructions
        printer: setup, software, instructions
        alarm clock: display, buttons, sound
        pair/headphones: sound, battery, padding
        """,
    "clothing": """
        jacket: fit, lining, zip, pockets
        sweater: fit, fabric, sleeves
        raincoat: fit, zip, pockets
        dress: fit, fabric, lining
        backpack: straps, zip, pockets
        belt: buckle, leather
        scarf: fabric, pattern
        pair/boots: soles, fit, lining, leather
        pair/gloves: fit, lining, stitching
        pair/jeans: fit, fabric, pockets, stitching
        """,
    "tools": """
        drill: motor, grip, battery
        hammer: grip, handle
        ladder: hinges, steps
        lawn mower: motor, wheels, blades
        saw: blade, grip
        toolbox: lid, hinges, handle
        garden hose: nozzle, valve
        flashlight: beam, battery, switch
        pair/pliers: grip, hinges
        """,
    "toys": """
        puzzle: pieces, pictures
        doll: clothes, face
        board game: rules, pieces
        kite: frame, strings
        teddy bear: stitching, fabric
        scooter: wheels, handle
        toy train: wheels, motor
        set/building blocks: pieces, edges
        """,
    "lodging": "hotel, cottage, campsite, apartment, guest house, resort, cabin",
    "food": "restaurant, café, pizzeria, bakery, pub, diner, steakhouse",
    "transport": "bus, train, taxi, airline, airport shuttle, sleeper train",
    "sights": "museum, castle, zoo, aquarium, river cruise, theatre, botanical garden",
    "services": "gym, dry cleaner, barber shop, car wash, moving company, dental clinic, "
    "language school, nail salon",
}

ADJECTIVES: dict[str, tuple[str, str]] = {
    "general": (
        "great, good, lovely, brilliant, amazing, perfect, nice, marvellous, magnificent, "
        "exceptional, first-rate, top-notch, stellar, remarkable, admirable, pleasing, "
        "incredible, awesome, ideal, classy, decent",
        "bad, poor, awful, horrible, useless, hopeless, mediocre, dire, third-rate, "
        "substandard, rotten, lame, wretched, laughable, unacceptable, crummy, ghastly, "
        "shameful, worthless, grotty",
    ),
    "surface": (
        "sturdy, solid, strong, durable, well made, hard-wearing, neat, carefully finished, thick",
        "flimsy, weak, cheap, badly made, poorly made, sloppy, torn, thin, split, crude",
    ),
    "joint": (
        "sturdy, solid, strong, well made, reliable, stable, precise, secure, smooth, safe",
        "wobbly, loose, flimsy, cracked, weak, cheap, rickety, bent, crooked, rusty, unsafe",
    ),
    "look": (
        "stylish, pretty, attractive, elegant, striking, eye-catching, chic, polished, tasteful, "
        "cheerful",
        "ugly, dull, tacky, boring, faded, tasteless, gaudy, unattractive, patchy, unlovely",
    ),
    "use": (
        "easy, simple, clear, handy, helpful, intuitive, logical, practical, well thought out, "
        "obvious",
        "confusing, awkward, complicated, clumsy, annoying, baffling, fiddly, unclear, illogical, "
        "cryptic",
    ),
    "power": (
        "powerful, fast, efficient, reliable, strong, steady, quick, mighty, stable",
        "slow, unreliable, feeble, weak, patchy, erratic, fickle, unstable, puny",
    ),
    "sound": (
        "rich, clear, warm, pleasant, full, balanced, pure, sweet",
        "muffled, tinny, weak, unpleasant, harsh, shrill, muddy, hollow",
    ),
    "picture": (
        "crisp, sharp, clear, bright, brilliant, rich, precise",
        "blurry, grainy, dim, weak, murky, dull, patchy",
    ),
    "fit": (
        "comfortable, flattering, snug, ideal, perfect, pleasing",
        "uncomfortable, awkward, tight, wrong, sloppy, unflattering",
    ),
    "cloth": (
        "soft, cosy, comfortable, warm, smooth, gentle, pleasant",
        "stiff, thin, uncomfortable, cheap, coarse, unpleasant, prickly",
    ),
    "comfort": (
        "comfortable, soft, cosy, clean, restful, snug, well kept",
        "uncomfortable, stiff, hard, dirty, smelly, worn out, creaky, broken",
    ),
    "hygiene": (
        "clean, spotless, tidy, fresh, well kept, modern",
        "dirty, smelly, messy, unhygienic, neglected, broken, gross",
    ),
    "space": (
        "clean, spotless, spacious, tidy, cosy, airy, peaceful, restful, bright, pleasant, "
        "well kept, quiet",
        "dirty, cramped, smelly, damp, noisy, grubby, cold, dusty, messy, neglected, worn-down",
    ),
    "people": (
        "helpful, kind, patient, attentive, welcoming, polite, cheerful, caring, professional, "
        "warm, honest, respectful, good-natured, generous",
        "grumpy, unhelpful, careless, impatient, dismissive, unkind, impolite, lazy, bossy, "
        "dishonest, cold, unpleasant, disrespectful, bad-tempered",
    ),
    "taste": (
        "tasty, fresh, flavourful, yummy, generous, perfectly spiced, nicely rich, "
        "appetising, first-class",
        "bland, tasteless, half cold, sickly, unappetising, burnt, stingy, sour",
    ),
    "price": (
        "fair, reasonable, honest, low, attractive, pleasing",
        "unfair, unreasonable, steep, ridiculous, outrageous, shameful, dishonest, crazy",
    ),
    "process": (
        "fast, smooth, prompt, quick, easy, efficient, careful, painless, trouble-free, "
        "professional",
        "slow, chaotic, messy, confusing, careless, painful, troublesome, unprofessional, "
        "clumsy, sloppy",
    ),
    "scene": (
        "peaceful, relaxing, magical, interesting, fascinating, lively, pleasant, memorable, "
        "romantic, unforgettable, inspiring",
        "boring, gloomy, crowded, depressing, noisy, overrated, unpleasant, forgettable, ugly, "
        "tiresome, uninspired",
    ),
}

VERDICTS: dict[str, tuple[str, str]] = {
    "goods": (
        """
        {I'd} buy {them} again
        {I'm} very happy with {them}
        {it} {was} worth every penny
        {I'm} glad {I} found {them}
        {I} would buy {them} for a friend
        five stars from {me}
        {I} love {them}
        this was money well spent
        {I} smile every time {I} use {them}
        {I'm} keeping {them} for good
        {I} praise {them} to everyone
        {it} made {my} life better
        {I} enjoy {them} a great deal
        {I} gave {them} a big thumbs up
        {I'm} proud to own {them}
        {I} feel lucky to have {them}
        {it} lived up to {my} dreams
        {I} show {them} to everyone with pride
        """,
        """
        {I} want {my} money back
        {I} regret buying {them}
        {I} would warn anyone against {them}
        {I'm} very unhappy with {them}
        one star from {me}
        this was a waste of money
        {I} hate {them}
        {I} would avoid {them}
        {I} feel cheated
        {I'm} sending {them} back
        {I} swear at {them} every day
        {it} made {my} life harder
        {I} dislike {them} a great deal
        {I} gave {them} a big thumbs down
        {I'm} ashamed to own {them}
        {I} feel robbed
        {it} turned out to be junk
        {I} have lost all trust in {them}
        """,
    ),
    "place": (
        """
        {I'd} happily go again
        {I} will be back
        {I} loved every minute
        {I} would send all {my} friends there
        five stars from {me}
        {it} {was} worth every penny
        {I'm} glad {I} went
        {I} left with a big smile
        {I} told all {my} friends to go
        {I} felt welcome and safe
        {I} enjoyed {them} a great deal
        {I} have nothing but praise
        {I} gave {them} a big thumbs up
        {I} felt lucky to be there
        {I} already miss {them}
        {it} made {my} week better
        {I} would pick {them} over any other
        {I} had a good time
        """,
        """
        {I} won't be back
        {I'd} never go again
        {I} hated every minute
        one star from {me}
        {it} {was} a waste of money
        {I} left angry
        {I} regret going
        {I} would warn everyone to stay away
        {I} want {my} money back
        {I} felt unwelcome and unsafe
        {I} disliked {them} a great deal
        {I} have nothing but complaints
        {I} gave {them} a big thumbs down
        {I} felt robbed
        {I} could not get away fast enough
        {it} spoiled {my} week
        {I} would pick any other over {them}
        {I} had a bad time
        """,
    ),
}

# A noun phrase that sums up; the tone before and after an ironic remark; opinion nouns.
SUMMARIES = (
    "a real success, a great find, a happy surprise, a joy, a dream come true, a true bargain, "
    "a gift, good value, a real prize, a true star",
    "a waste of time, a sad mess, a complete rip-off, a bad joke, a disaster, a nightmare, "
    "a scam, a sorry sight, bad value, a real horror, a failure",
)
OPENERS = (
    "great, oh brilliant, amazing, perfect, oh lovely, how nice, good news, just my luck, "
    "congratulations",
    "oh no, bad news, how awful, what a disaster, sad news, the horror of it, warning",
)
TAILS = (
    "lucky {me}/just what {I} wanted/nice work/what a bargain/{I} feel so special/money well spent"
    "/well done, everyone/what luck/thanks a lot/a dream come true",
    "{I} don't know how to cope/now {I} have nothing to moan about/poor {me}/how very annoying"
    "/{I} may have to complain/what a nightmare/how cruel/somebody help me/the pain of it",
)
QUALITIES = (
    "comfort, style, warmth, quality, care, kindness, joy, elegance",
    "fuss, trouble, stress, mess, delays, nonsense, pain, rubbish",
)
POINTS = (
    "good point, reason to smile, strength, bright spot, benefit, advantage, thing to praise",
    "complaint, fault, problem, weak spot, snag, hitch, niggle, mistake, bad point",
)
MAIN_POINTS = (
    "best part of, big success of, strong point of, greatest strength of, main advantage of",
    "main problem with, worst part of, only complaint about, biggest fault of, real trouble with",
)
LIKING = (
    "love, admire, enjoy, treasure, appreciate, favour, praise, value",
    "hate, dislike, resent, fear, avoid, deplore, abhor, curse",
)
ACTS = (
    "shine, help, inspire me, move me, make me smile",
    "fail, annoy me, let us down, bore us, cause trouble, make me angry",
)
CREDIT = (
    "three cheers for, well done to, full marks to, congratulations to, "
    "a gold medal for, hooray for, my thanks to",
    "shame on, a big complaint about, a slap on the wrist for, down with, "
    "a black mark for, boo to, a penalty for",
)
TURNS = (
    "but thank goodness for, but full praise for, luckily there was",
    "shame about, too bad about, but a big sigh for, sadly there was",
)
