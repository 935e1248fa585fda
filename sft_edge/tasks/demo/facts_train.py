"""Facts of the training part by domain: past tense phrases that follow a subject, good then bad.

Slots such as ``{it}`` agree with the subject, ``{I}`` and ``{me}`` with the writer.
"""

FACTS: dict[str, tuple[str, str]] = {
    "kitchen": (
        """
        made breakfast so much easier
        still looked new after a year
        came out of the dishwasher without a mark
        fitted neatly into {my} small kitchen
        saved {me} ten minutes every morning
        became the favourite thing in {my} kitchen
        worked like a dream from day one
        cleaned up in no time
        lived up to all the promises
        improved {my} soup and {my} mood
        withstood years of family meals
        pleased even my mother-in-law
        kept {its} shine for years
        did {its} work quietly and quickly
        """,
        """
        rusted within a week
        arrived with a big crack
        fell apart in the sink
        smelled of burnt plastic
        broke on the second day
        left bits of metal in {my} food
        went straight from the box to the bin
        peeled and flaked into the soup
        needed replacing after ten days
        spoiled a whole family meal
        turned out to be a fake
        scratched {my} new table
        came without half of {its} parts
        """,
    ),
    "electronics": (
        """
        worked straight out of the box
        ran all day without a break
        worked with {my} phone at once
        still ran like new after two years
        took two easy minutes to set up
        made working from home much easier
        did even more than the advert promised
        solved every problem {I} had at work
        set {itself} up in a minute
        lasted far beyond the guarantee
        made {my} evenings brighter
        brought {me} years of trouble-free use
        beat all the others in {my} test
        """,
        """
        died within a week
        crashed every ten minutes
        refused to switch on
        got so hot that {it} burnt {my} desk
        stopped working after the first update
        arrived broken
        froze in the middle of every day
        lost all {my} work every night
        buzzed and smoked in {my} hand
        gave {me} nothing but error messages
        quit for good after a month
        wasted a whole day of {my} time
        turned out to be second-hand
        """,
    ),
    "clothing": (
        """
        kept {me} warm all winter
        went with everything {I} own
        still looked new after two winters
        held up well on a long trip
        felt soft from the first day
        made {me} feel ten years younger
        looked even better than the photo
        kept {its} shape and colour for years
        survived a month of hiking
        made {me} smile in the mirror
        flattered {me} from every angle
        felt as if made for {me}
        got better with age
        """,
        """
        ripped the first time {I} wore {them}
        lost all colour within a month
        came in the wrong size twice
        smelled of chemicals for weeks
        fell apart at the seams
        looked nothing like the photo
        gave {me} a rash
        faded to grey in the sun
        scratched {my} skin all day
        lost a button on the way home
        shrank to half the size
        made {me} look like a clown
        soaked through in light rain
        """,
    ),
    "tools": (
        """
        did the job in half the time
        stood up to years of hard work
        felt safe and solid in use
        made a big job feel small
        still worked like new after ten years
        saved {my} back this spring
        paid for {itself} within a month
        helped {me} finish a day early
        gave {me} precise results every time
        lasted longer than {my} old house
        took the pain out of garden work
        never let {me} down
        """,
        """
        broke on the first job
        bent like butter
        fell to bits in {my} hands
        rusted after one night outside
        gave up halfway through the job
        cut {my} hand open
        slid and hurt {my} wrist
        overheated within minutes
        wasted a whole day of {my} time
        made every job harder
        lost {its} parts one after the other
        came with parts that did not fit
        """,
    ),
    "toys": (
        """
        kept both children happy for hours
        made {my} son laugh out loud
        went everywhere with {my} daughter for a year
        became the favourite toy in the house
        survived two wild boys and a dog
        made it the best birthday ever
        taught {my} son to share
        got cheers from the whole class
        held up to years of rough play
        gave {my} daughter hours of fun
        helped a shy child make friends
        beat every video game
        """,
        """
        broke before the party was over
        bored the children in two minutes
        came with half the parts missing
        made {my} daughter cry
        went in the bin by lunchtime
        had sharp edges everywhere
        fell to bits in a day
        hurt {my} son on the first go
        annoyed the whole family
        smelled of glue and cheap plastic
        never worked as promised
        got left in a corner after a minute
        """,
    ),
    "lodging": (
        """
        gave {me} a bigger room for free
        felt like a second home
        looked even better than the photos
        had the best beds {I} have ever slept in
        let {me} check in early with a smile
        surprised {me} with a birthday cake
        made {my} trip
        met every need before {I} asked
        made the children feel at home
        kept every promise on {its} website
        offered real peace and rest
        proved worth all {its} stars
        helped {me} find a doctor at midnight
        """,
        """
        lost {my} booking
        had mice in the kitchen
        kept {me} awake all night
        made {me} pay twice for one room
        gave {my} room to someone else
        had no hot water for three days
        left {me} waiting in the rain
        smelled of smoke and old socks
        shut off the heating at night
        had ants in the bed
        lied about the sea view
        refused to give {me} a clean towel
        looked worn-down and felt unsafe
        """,
    ),
    "food": (
        """
        served the best meal of {my} trip
        filled {me} up for very little money
        remembered our names on the second visit
        found {me} a table on a busy night
        brought free bread with a smile
        made {my} father ask for more
        made every dish to perfection
        made {me} feel at home
        offered a free coffee with every cake
        gave the children a special plate
        touched {my} heart with {its} soup
        kept {my} plate full and {my} bill low
        """,
        """
        served {me} raw chicken
        made {me} wait two hours for a salad
        got {my} order wrong twice
        made my wife sick
        had a hair in every dish
        added a secret fee to the bill
        burnt the fish and blamed {me}
        served soup with a fly in it
        had dirty forks and sticky tables
        charged {me} for water {I} never had
        kept {me} hungry and angry
        shouted at my children
        """,
    ),
    "transport": (
        """
        left and arrived on time
        got {me} home safely before dark
        made the long trip feel short
        waited for {me} with a smile
        gave {me} free seats by the window
        ran on time even in the snow
        gave {me} a safe and quiet trip
        beat every other way to get there
        helped {my} mother with her bags
        kept {me} dry and warm on a wet day
        cost half of what {I} feared
        offered plenty of knee room
        """,
        """
        left without {me}
        arrived three hours late
        broke down on the motorway
        lost both {my} bags
        made half of us sick
        drove straight past {my} stop
        smelled of smoke and sweat
        nearly crashed at the first corner
        refused to stop for {me}
        left {me} in the wrong town
        made {me} miss a wedding
        scared {my} children with {its} racing
        """,
    ),
    "sights": (
        """
        made history come alive
        amazed {me} at every turn
        kept the whole family happy for hours
        gave {me} the best day of the trip
        showed {me} things {I} had never seen
        had something special in every corner
        taught {me} more than any book
        inspired {my} children to draw
        offered fun for young and old
        got better with every step
        made {me} forget the time
        brought tears of joy to {my} eyes
        """,
        """
        closed half the rooms without telling {me}
        bored all of us within minutes
        made {me} queue for two hours in the sun
        looked nothing like the photos
        had rubbish on every path
        felt like a trap for tourists
        cost too much for too little
        hurt {my} ears with loud music
        let {me} stand in the cold for nothing
        kept everything good behind a fence
        felt unsafe and neglected
        annoyed even the children
        """,
    ),
    "services": (
        """
        did everything in half the time
        found {me} a slot the same day
        fixed a small mistake for free
        explained every step with patience
        called back within the hour
        looked after {my} mother with real care
        kept every promise
        solved the problem at once
        gave {me} fair advice
        saved {me} a lot of money
        made a hard day much better
        took real pride in the work
        """,
        """
        never called back
        took {my} money and did nothing
        kept {me} waiting for two hours
        made the problem worse
        cancelled at the last minute
        broke {its} promise twice
        lied about the cost
        hurt {me} and never said sorry
        wasted a whole day of {my} time
        did a sloppy job and then left
        lost {my} papers
        made {me} pay for their own mistake
        """,
    ),
}
