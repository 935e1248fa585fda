"""Words that both parts share: aspects, contexts, verbs of use, and the shared vocabulary."""

GOODS = ("kitchen", "electronics", "clothing", "tools", "toys")
# Domains whose reviews one person writes, so "I" and never "we".
LONE = ("electronics", "clothing", "tools")
PLACES = ("lodging", "food", "transport", "sights", "services")

# Kind of aspect -> aspects; "+" marks a plural and "~" a noun that takes no "a".
ASPECTS: dict[str, str] = {
    "surface": "lid, spout, coating~, rim, zip, straps+, buckle, leather~, soles+, stitching~, "
    "valve, edges+, material~, packaging~, switch, strings+",
    "joint": "handle, blade, blades+, cord, plug, hinges+, grip, steps+, wheels+, nozzle, frame, "
    "pieces+",
    "look": "design, colour, pattern, face, pictures+, clothes+, fabric~, finish",
    "use": "buttons+, instructions+, setup, software~, menu, keys+, pockets+, app, signs+, "
    "website, rules+",
    "power": "motor, battery, signal, beam",
    "sound": "sound~",
    "picture": "picture, screen, display",
    "fit": "fit",
    "cloth": "lining, sleeves+, padding~",
    "comfort": "seats+, bed, chairs+, pillows+",
    "space": "room, bathroom, terrace, waiting room, entrance",
    "hygiene": "toilets+, showers+",
    "people": "staff+, driver, waiter, guide, manager, seller, crew, owner, receptionist",
    "taste": "breakfast, soup, coffee~, bread~, sauce, fish~, dessert",
    "price": "price, fare, bill",
    "process": "delivery~, service~, check-in, booking process",
    "scene": "view, atmosphere, location, tour, grounds+",
}

# Aspects that fit every subject of a domain, besides those named with the subject.
DOMAIN_ASPECTS: dict[str, str] = {
    "kitchen": "price, delivery, design, colour, finish, packaging, seller, material",
    "electronics": "price, delivery, design, packaging, seller, finish",
    "clothing": "price, delivery, design, colour, seller, packaging",
    "tools": "price, delivery, design, packaging, seller, material",
    "toys": "price, delivery, design, colour, packaging, seller, material",
    "lodging": "room, bathroom, bed, breakfast, staff, view, showers, location, check-in, price, "
    "owner, receptionist, pillows, entrance",
    "food": "soup, coffee, bread, sauce, fish, dessert, waiter, staff, bill, chairs, atmosphere, "
    "service, terrace",
    "transport": "driver, crew, seats, fare, check-in, booking process, staff, app, toilets",
    "sights": "guide, tour, signs, staff, price, view, grounds, atmosphere, entrance, toilets",
    "services": "staff, booking process, price, manager, waiting room, website, service, "
    "receptionist, chairs",
}

GOT: dict[str, str] = {
    "goods": "bought, ordered, tried, picked, chose",
    "lodging": "booked, tried, picked, chose",
    "food": "tried, picked, chose, visited",
    "transport": "took, booked, tried, chose",
    "sights": "visited, picked, chose",
    "services": "tried, used, picked, chose",
}

TIMES = (
    "last month, in July, in the spring, last weekend, that week, on a rainy Sunday, the first time"
)

CONTEXTS: dict[str, str] = {
    "goods": """
        last month
        for my sister
        as a present
        in the spring
        on the advice of a friend
        for {my} new home
        two weeks ago
        before the holidays
        for a family trip
        after reading about {them} online
        on a whim
        """,
    "place": """
        last weekend
        with my parents
        in July
        on a rainy Sunday
        for a birthday
        on the way home
        with two small children
        on the advice of a friend
        with a group of friends
        after reading about {them} online
        on a whim
        """,
}

# Every word that both parts may use: function words, aspects and neutral words, without any
# opinion word or subject.  Any other word that turned up in both parts would be a leak.
SHARED_WORDS = """
    a about add added admit advice after ago agree agreed all although an and another any anyone
    anything app are arrived as ask asked at atmosphere attention back bathroom battery be beam
    because bed been before being believe beyond bill blade blades booked booking bought bread
    breakfast buckle but buttons by ca call called calls came can certainly chairs change check
    children chose close clothes coating coffee colour cord could course crew day days delivery
    describe design despite dessert did display do does driver edges either end enough entrance
    even evening evenings ever every everyone everything everywhere expect expected fabric face
    family far fare felt few find finish first fish fit food for frame friend friends from gave
    get give grip grounds group guide had half handle has have hear her hinges holidays home
    hour how i if in instructions into is it july just keys know last least leather left lid
    like lining location look looked m made manager many material mattered may me menu moment
    money month more motor much must my neighbour neither never new night no nobody nor not
    nothing nozzle of off oh old on once one online only opposite or ordered other others our
    out over owner packaging padding paid pair parents pattern people picked picture pictures
    pieces pillows plate plates plenty plug pockets present price process proved put quite rainy
    re reading ready really receptionist report results rim room rules same sauce say screen
    seats second see seen seller service set setup short should showers sight signal signs since
    single sister six skin sleeves small so software soles some sound soup spout spring staff
    start steps still stitching stop straps street strings sunday switch table tell ten terrace
    than that the them then there these they thing things this though thought three through time
    to toilets told too took tour tried true truly turned two unlike up us use valve verdict
    view visited waiter waiting want wants was way we website week weekend weeks went were what
    whatever wheels when whereas which whim who whoever whole wife will with within without wo
    word words worked would year years yes yet you zip
"""
