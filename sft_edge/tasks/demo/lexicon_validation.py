"""Words of the validation part, none of which the training part uses.

The layout is that of ``lexicon_train``: text blocks by domain or by kind of aspect, the
positive entries first.
"""

from .facts_validation import FACTS as FACTS

SUBJECTS: dict[str, str] = {
    "kitchen": """
        whisk: handle
        rice cooker: lid, buttons, cord
        juicer: motor, blades, lid
        teapot: handle, lid, spout
        waffle iron: handle, hinges, cord
        grater: handle, blades
        casserole: lid, coating
        colander: rim, handle
        pepper mill: handle
        set/measuring cups: rim
        """,
    "electronics": """
        monitor: screen, picture, menu, setup
        microphone: sound, cord, setup
        projector: picture, sound, menu, setup
        smartwatch: display, battery, menu
        thermostat: display, setup, instructions
        webcam: picture, setup, software
        voice recorder: sound, battery, menu
        scanner: setup, software, instructions
        pair/earbuds: sound, battery
        """,
    "clothing": """
        cardigan: fit, fabric, sleeves, pockets
        hoodie: fit, fabric, zip, pockets
        blouse: fit, fabric, sleeves
        parka: fit, lining, zip, pockets
        skirt: fit, fabric, lining
        wallet: leather, stitching, zip
        beanie: fit, fabric, pattern
        pair/sandals: soles, straps, fit
        pair/slippers: soles, lining, fit
        pair/leggings: fit, fabric, stitching
        """,
    "tools": """
        screwdriver: grip, handle
        sander: motor, grip, switch
        wheelbarrow: wheels, frame
        hedge trimmer: motor, blades, grip
        shovel: grip, handle
        rake: grip, handle
        chisel: blade, grip
        workbench: frame, edges
        pair/secateurs: blades, grip
        """,
    "toys": """
        jigsaw: pieces, pictures
        rocking horse: frame, handle
        marble maze: pieces, instructions
        tricycle: wheels, frame
        puppet: clothes, face, strings
        xylophone: sound, frame
        stuffed rabbit: stitching, fabric
        set/crayons:
        """,
    "lodging": "hostel, inn, villa, lodge, chalet, motel, houseboat, farmstead",
    "food": "bistro, tavern, canteen, noodle bar, brasserie, trattoria, delicatessen, buffet",
    "transport": "ferry, tram, coach, minibus, limousine, catamaran, monorail",
    "sights": "gallery, palace, cathedral, lighthouse, planetarium, vineyard, fortress, "
    "observatory",
    "services": "spa, pharmacy, yoga studio, courier firm, veterinary practice, dance academy, "
    "tailoring workshop, nursery",
}

ADJECTIVES: dict[str, tuple[str, str]] = {
    "general": (
        "excellent, superb, delightful, splendid, terrific, wonderful, fantastic, outstanding, "
        "fabulous, impressive",
        "terrible, dreadful, appalling, abysmal, lousy, atrocious, pathetic, disappointing, dismal",
    ),
    "surface": (
        "robust, beautifully crafted, exquisitely crafted",
        "shoddy, fragile, defective, disgraceful",
    ),
    "joint": (
        "robust, beautifully crafted, exquisitely crafted",
        "fragile, brittle, shoddy, defective",
    ),
    "look": (
        "gorgeous, stunning, beautiful, exquisite, charming",
        "hideous, drab, garish, dreary, repulsive",
    ),
    "use": (
        "straightforward, effortless, sensible, convenient",
        "frustrating, maddening, incomprehensible, infuriating",
    ),
    "power": (
        "robust, flawless, tireless, responsive",
        "sluggish, temperamental, defective, frustrating",
    ),
    "sound": ("flawless, beautiful, gorgeous", "distorted, abrasive, jarring"),
    "picture": ("vivid, beautiful, flawless, stunning", "fuzzy, distorted, garish"),
    "fit": ("flawless, luxurious, heavenly", "lopsided, hideous"),
    "cloth": ("plush, silky, luxurious", "abrasive, lumpy, shabby"),
    "comfort": ("plush, luxurious, heavenly, inviting", "lumpy, filthy, grimy, shabby"),
    "hygiene": ("gleaming, sparkling, immaculate", "filthy, grimy, squalid, disgusting"),
    "space": (
        "immaculate, inviting, sparkling, beautiful, gleaming, luxurious, charming",
        "filthy, mouldy, grimy, dingy, squalid, shabby, dreary",
    ),
    "people": (
        "courteous, gracious, considerate, amiable, hospitable, charming",
        "rude, arrogant, hostile, condescending, incompetent, obnoxious, insulting",
    ),
    "taste": (
        "delicious, scrumptious, heavenly, divine, exquisite",
        "revolting, disgusting, foul, rancid, repulsive",
    ),
    "price": ("affordable, sensible, delightful", "exorbitant, extortionate, absurd, scandalous"),
    "process": (
        "effortless, flawless, speedy, streamlined, convenient",
        "shambolic, disorganised, sluggish, infuriating, frustrating",
    ),
    "scene": (
        "breathtaking, spectacular, stunning, enchanting, beautiful, charming",
        "bleak, barren, soulless, dreary, tedious, squalid",
    ),
}

VERDICTS: dict[str, tuple[str, str]] = {
    "goods": (
        """
        {I'm} delighted with {them}
        {I'm} thoroughly satisfied
        {I} adore {them}
        {I'm} truly impressed
        {I'm} thrilled with {them}
        {I} highly recommend {them}
        {I} cherish {them}
        {I'm} enthusiastic about {them}
        """,
        """
        {I} demanded a refund
        {I'm} deeply disappointed
        {I'm} thoroughly dissatisfied
        {I} loathe {them}
        {I} returned {them} in disgust
        {I} despise {them}
        {I'm} furious
        {I} felt swindled
        """,
    ),
    "place": (
        """
        {I} adored the whole experience
        {I was} delighted from start to finish
        {I was} thoroughly satisfied
        {I was} thrilled to the end
        {I} highly recommend {them}
        {I} left deeply impressed
        {I'm} eager to return
        {I} cherish every moment
        """,
        """
        {I} fled in disgust
        {I} loathed the whole experience
        {I} demanded a refund
        {I} despise {them}
        {I was} thoroughly dissatisfied
        {I} felt swindled
        {I} left deeply disappointed
        {I} came out furious
        """,
    ),
}

SUMMARIES = (
    "an absolute gem, a triumph, sheer bliss, an utter delight, a winner, a masterpiece",
    "an utter fiasco, a shambles, a flop, an ordeal, sheer agony, a disappointment",
)
OPENERS = (
    "terrific, oh splendid, fantastic, how delightful, oh superb, wonderful",
    "how dreadful, how terrible, what a calamity, how tragic, how appalling",
)
TAILS = (
    "what a thrill/bravo/how gracious/what a privilege/sheer heaven/how charming",
    "what a hardship/how {I} suffer/such torment/pass the tissues/what a tragedy",
)
QUALITIES = (
    "flair, charm, refinement, courtesy, elation",
    "hassle, grief, frustration, agony, aggravation",
)
POINTS = (
    "merit, virtue, delight",
    "flaw, defect, shortcoming, blemish",
)
MAIN_POINTS = (
    "highlight of, crowning achievement of, finest feature of",
    "chief grievance about, sole flaw of, gravest shortcoming of",
)
LIKING = ("adore, cherish, relish", "loathe, detest, despise")
ACTS = ("impress, satisfy, delight, captivate", "disappoint, irritate, frustrate, misbehave")
CREDIT = ("a round of applause for, bravo to", "a pox on, a plague on")
TURNS = (
    "but bravo for, but hats off to",
    "pity about, alas for, but woe betide",
)
