"""Facts of the validation part by domain: past tense phrases that follow a subject, good then bad.

Slots such as ``{it}`` agree with the subject, ``{I}`` and ``{me}`` with the writer.
"""

FACTS: dict[str, tuple[str, str]] = {
    "kitchen": (
        """
        turned supper into a thrill
        delighted all the cooks in the family
        earned compliments from all {my} visitors
        gave superb results at every supper
        proved a delight to hold
        impressed my aunt, a famous chef
        """,
        """
        chipped on the first rinse
        disintegrated after one use
        gave off a foul stench
        ruined my supper
        disappointed the whole family
        shattered on the first evening
        """,
    ),
    "electronics": (
        """
        impressed everyone at the office
        worked beautifully for eighteen months
        ran flawlessly for eighteen months
        delighted the whole office
        gave superb results for years
        thrilled the whole team
        """,
        """
        conked out after four days
        malfunctioned from the outset
        short-circuited on arrival
        went haywire in the second month
        ruined a vital meeting
        malfunctioned constantly
        """,
    ),
    "clothing": (
        """
        reaped compliments all evening
        remained gorgeous for three seasons
        felt luxurious next to the skin
        earned {me} compliments all season
        delighted {my} aunt at first sight
        impressed everyone at the office
        """,
        """
        unravelled before the month was out
        stained {my} shirt blue
        pinched and chafed all day
        frayed at the edges in days
        disintegrated on the second outing
        itched unbearably
        """,
    ),
    "tools": (
        """
        worked beautifully for ten seasons
        impressed {my} uncle, a carpenter
        gave superb results
        delighted all the others in the family
        did every task superbly
        made {me} look like a true expert
        """,
        """
        snapped in two on day one
        seized up in the shed
        crumpled at the first hint of effort
        disintegrated in {my} grip
        ruined {my} Saturday
        turned one small task into an ordeal
        """,
    ),
    "toys": (
        """
        enthralled the twins all afternoon
        sparked constant giggles
        won over even {my} teenager
        enchanted all the children
        thrilled {my} grandson
        delighted the toddler for months
        """,
        """
        snapped before supper
        ended in sobs within the hour
        shed toxic paint everywhere
        proved to be a choking hazard
        disappointed the twins
        frightened the toddler
        """,
    ),
    "lodging": (
        """
        pampered {me} from the moment {I} arrived
        treated {me} like royalty
        greeted {me} with flowers and champagne
        delighted all of us
        delighted {me} with homemade jam
        upgraded {me} to a luxurious suite
        """,
        """
        double-booked {my} suite
        had bedbugs in the pillows
        reeked of sewage
        swindled {me} over the deposit
        flooded on {my} first night
        had cockroaches in the shower
        """,
    ),
    "food": (
        """
        cooked the finest lamb {I} have eaten
        had {me} licking {my} plates
        delighted even {my} strict uncle
        catered superbly for {my} allergies
        treated {me} like royalty
        enchanted all of us
        """,
        """
        gave {me} food poisoning
        forgot {my} dessert entirely
        ruined {my} anniversary
        had a cockroach under the table
        inflated the bill with invented items
        reeked of drains
        """,
    ),
    "transport": (
        """
        treated {me} like royalty
        glided along beautifully
        pampered {me} with blankets and cocoa
        impressed all of us
        delighted the toddlers
        turned the commute into a thrill
        """,
        """
        stranded {me} overnight
        spluttered to a halt four times
        mislaid {my} luggage
        skipped {my} stop entirely
        ruined {my} anniversary
        reeked of petrol
        """,
    ),
    "sights": (
        """
        mesmerised {me} from start to finish
        enthralled {me} all afternoon
        left {me} spellbound
        deserved every accolade
        captured everybody's imagination
        thrilled {me} beyond words
        """,
        """
        swindled {me} at the entrance
        herded {me} through like cattle
        squandered {my} entire afternoon
        reeked of drains
        ruined {my} anniversary
        exhausted and irritated all of us
        """,
    ),
    "services": (
        """
        went above and beyond for {my} grandmother
        impressed {me} beyond words
        delighted the whole family
        reassured {my} nervous nephew
        treated {me} like royalty
        got superb results
        """,
        """
        botched everything utterly
        ignored six of {my} emails
        bungled a routine appointment
        fobbed {me} off with excuses
        ruined {my} anniversary
        treated {me} with contempt
        """,
    ),
}
