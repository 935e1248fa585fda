"""Sentence frames by kind.

Slots: ``{S}`` the subject noun, ``{theS} {aS} {thisS} {anotherS}`` with its
determiner, ``{it} {them} {its} {was} {thisone}`` agreeing with it; ``{A} {B}``
aspects of the subject and ``{A.was} {A.is} {A.do}`` their verbs.  A trailing ``+`` means "of the
sentence's own polarity" and ``-`` the opposite one: ``{A+}`` an adjective that fits the aspect,
``{S+}`` one for the subject, ``{aA+} {aS+}`` such a noun phrase, ``{F+}`` a fact, ``{V+}`` a
verdict, and word lists such as ``{open+}``.  ``{I} {me} {my} {I'm} {I'd}`` follow the writer.
"""

from typing import NamedTuple


class Frame(NamedTuple):
    """A sentence skeleton and where it may be used."""

    text: str
    scope: str = "any"  # "any", "goods" or "place"
    split: str = "both"  # "both", "train" or "validation"
    label: int | None = None  # the only label it fits, or None for either


T, V = "train", "validation"

PLAIN = (
    Frame("The {A} {A.was} {A+} and the {B} {B.was} {B+} too."),
    Frame("{A+} {A}, {B+} {B}: {V+}."),
    Frame("{I} {got} {thisS} {K} and {it} {F+}."),
    Frame("{theS} {F+}, and {V+}."),
    Frame("{W+}, that is the only way to put it: {theS} {F+}."),
    Frame("{V+}, because the {A} {A.was} {A+}."),
    Frame("To put it in a few words, {theS} {was} {S+} and the {A} {A.was} {A+}."),
    Frame("The {A} {A.was} {really}{A+}. Oh, and the {B}? {B+} too."),
    Frame("{I} {got} {thisS} {K}, and {V+}."),
    Frame("{aS+} with {aA+} and {aB+}."),
    Frame("What can {I} say? {theS} {F+}, the {A} {A.was} {A+}, and {V+}."),
    Frame("My neighbour has the same {S}, and we agree: {it} {F+}.", "goods"),
    Frame("{aS+}, and all of {my} friends thought the same when {it} {F+}."),
    Frame("{A+}, that is how {I} would describe the {A}; in short, {W+}."),
    Frame("My parents {got} {thisS} {K} and told {me} it was {W+}."),
    Frame("Everything about {theS} was {S+}, from the {A} to the {B}."),
    Frame("The {A}, by the way, {A.was} {really}{A+}, and my wife thought so too."),
    Frame("Since so many people ask: {theS} {F+}, and yes, the {A} {A.is} {A+}."),
    Frame("{my} verdict on {thisS} after weeks of thought: {W+}."),
    Frame("{I} {got} {thisS} {K}. {A+} {A}, {B+} {B}, and {V+}."),
    Frame("Our group of six agreed that the {A} {A.was} {A+} and the {B} {B.was} {B+}.", "place"),
    Frame("Anyone who wants to know about {thisS} should look at the {A}: {really}{A+}."),
    # Training only.
    Frame("If anyone asks, {theS} {was} {S+} and {V+}.", "any", T),
    Frame("The first thing {I} noticed was the {A}: {A+}, and then {theS} {F+}.", "any", T),
    Frame("It is simple arithmetic: {theS} {F+}, so {V+}.", "goods", T),
    Frame("My sister {got} the same {S} and says the {A} {A.is} {A+}.", "any", T),
    Frame("{S+} {S}, {really}{A+} {A}, and {I} do not say that lightly.", "place", T),
    Frame(
        "Where do {I} start? The {A} {A.was} {A+}, the {B} {B.was} {B+}, and {it} {F+}.", "any", T
    ),
    Frame("{I} have had three of these over the years and {thisone} {F+}.", "goods", T),
    Frame("Compared with others of its kind, {thisS} had {aA+} and {aB+}.", "place", T),
    Frame("A short note for other parents: {theS} {F+}, and the {A} {A.was} {A+}.", "any", T),
    Frame("{V+}. The {A} {A.was} {really}{A+} and {it} {F+}.", "any", T),
    Frame(
        "It took {me} a week to write this, but here it is: {W+}, and the {A} {A.was} {A+}.",
        "any",
        T,
    ),
    Frame("It was a Tuesday when {theS} {F+} and the {A} {A.was} {A+}.", "place", T),
    # Validation only.
    Frame(
        "What struck {me} first was how {A+} the {A} {A.was}, and after that {it} {F+}.", "any", V
    ),
    Frame("My neighbour asked about {thisS}, so {I} told her that {it} {F+}.", "any", V),
    Frame("With {aA+}, {aB+} and a matching price tag, {thisS} {was} {W+}.", "goods", V),
    Frame("Picture {aA+}, then add {aB+}, and you have {theS} in a nutshell.", "any", V),
    Frame("Having read the other reviews, {I} will only add that {theS} {F+}.", "any", V),
    Frame("There were four of us {when}, and all four called {thisS} {W+}.", "place", V),
    Frame("Half a year on, {my} view is unchanged: {theS} {was} {S+}, and {V+}.", "any", V),
    Frame("For the record, the {A} {A.was} {A+}, and {theS} {F+}.", "any", V),
)

CONTRAST = (
    Frame("The {A} {A.was} {A+}, the {B} {B.was} {B-}, but in the end {V+}."),
    Frame("{A-} {A}, {B+} {B}; on the whole, {V+}."),
    Frame("{A-} {A}, {turn+} the {B}; {V+}."),
    Frame("Despite the {A-} {A}, {V+}."),
    Frame("{V+}, even though the {A} {A.was} {A-}."),
    Frame("{theS} {F+}, and that mattered more to {me} than the {A-} {A}."),
    Frame("{I} had expected {aS-}, but {it} {F+}."),
    Frame("{W+}, although {I} must admit that the {A} {A.was} {A-}."),
    Frame("The {A} may have been {A-}, but {theS} {F+}, so {V+}."),
    Frame("{I was} ready to {like-} {thisS}, but the {A} {A.was} {A+} and {V+}."),
    Frame("The {A} {A.was} {A-} and the {B} {B.was} {B-}; still, {V+}."),
    Frame("{V+}; that the {A} {A.was} {A-} does not change it."),
    Frame("{my} old {S} {F-}, whereas {thisone} {F+}.", "goods"),
    Frame("Last year {theS} {F-}; this time {it} {F+}, and {V+}.", "place"),
    Frame("This year {theS} {F+}, quite unlike last year, when {it} {F-}.", "place"),
    Frame("{thisS} {F+}, unlike {my} last, which {F-}.", "goods"),
    Frame("At first sight {theS} looked {S-}, yet {it} {F+} and {V+}."),
    Frame("Some will say the {A} {A.is} {A-}, but {theS} {F+}."),
    Frame("The {A-} {A} {A.is} one thing, but all in all {V+}."),
    # Training only.
    Frame("Yes, the {A} {A.was} {A-}, and yes, {V+} all the same.", "any", T),
    Frame("{V+}. The {A} {A.was} {A-}, but that is not what counts here.", "any", T),
    Frame("People told {me} {theS} would be {S-}. But no, {it} {F+}.", "any", T),
    Frame("Forget the {A-} {A}: what counts is that {theS} {F+}.", "any", T),
    Frame("The {A} {A.was} {A+} enough to make up for the {A-} start: {V+}.", "any", T, 1),
    Frame("It began with {aA+}, went on with {aB-}, and all in all {V+}.", "any", T),
    Frame("My brother thinks {theS} {was} {S-} because of the {A}, but {V+}.", "any", T),
    # Validation only.
    Frame("Granted, the {A} {A.was} {A-}, yet {theS} {F+}.", "any", V),
    Frame("{V+}, whatever others say about the {A-} {A}.", "any", V),
    Frame("Notwithstanding {aA-}, {thisS} {was} {W+}.", "any", V),
    Frame("Looking back, the {A-} {A} {A.do} not matter: {V+}.", "any", V),
    Frame("All in all {V+}, and the {A-} {A} could not alter that.", "any", V),
)

NEGATION = (
    Frame("The {A} {A.was} anything but {A-}, and the {B} {B.was} never {B-} either."),
    Frame("There was nothing {A-} about the {A}, nothing at all."),
    Frame("Not once did {I} find the {A} {A-}, and {I} paid close attention {when}."),
    Frame("{I} couldn't find a single {point-}, although {I} looked for one in {theS}."),
    Frame("Not a single {point-} to report about {theS}, not even with the {A}."),
    Frame("Not for one moment did {thisS} {act-}."),
    Frame("Don't believe anyone who calls the {A} {A-}; the opposite is true."),
    Frame("Neither the {A} nor the {B} {B.was} in any way {S-}."),
    Frame("Whoever called {thisS} {S-} can't have seen the {A}."),
    Frame("No {quality-}, no {quality2-}, and the {A} {A.was} never {A-}."),
    Frame("You won't hear {me} call the {A} {A-}, and {I} wouldn't call the {B} {B-} either."),
    Frame("It would not be true to call {theS} {S-}; {it} did not {act-} {when}."),
    Frame("The {A} {A.was}n't in the least {A-}, nor {B.was} the {B} {B-}."),
    Frame("{I} have yet to see anything {S-} about {thisS}, and the {A} {A.was} never {A-}."),
    Frame("{theS} didn't {act-} for a second, and the {A} {A.was} far from {A-}."),
    Frame("{S-}? No, not {thisS}, and certainly not the {A}."),
    Frame("{theS} came without any {quality-} and without one {point-}."),
    Frame("Call the {A} anything you want, but not {A-}, and never call {theS} {S-}."),
    Frame("There is no way {theS} could be called {S-}, and the {A} {A.was} never {A-}."),
    Frame("Nothing about the {A} or the {B} of {thisS} was {S-}."),
    Frame("The {A} {A.is} many things; {A-} is not one of them."),
    # Training only.
    Frame("Nobody in {my} family thought the {A} {A.was} {A-}, not even my father.", "any", T),
    Frame("{I} can't think of one {point-} in {thisS}, and neither can {my} sister.", "any", T),
    Frame("{I} can't say that {theS} {was} any good, or that the {A} {A.was} {A-}.", "any", T, 0),
    Frame("{I} never had any {quality-} with {theS}, {when} or after that.", "any", T, 1),
    Frame("By no means {A-}, the {A}, and far from {B-}, the {B}.", "any", T),
    Frame("The {A} {A.was} not {A-} at all, whatever the advert made {me} expect.", "any", T),
    # Validation only.
    Frame("At no stage {A.was} the {A} {A-}, and {I} checked more than once.", "any", V),
    Frame("Nobody could describe the {A} as {A-}, and nobody I know ever has.", "any", V),
    Frame("{I} searched in vain for a {point-} in {theS}.", "any", V),
    Frame("Search all you want, you won't see a {point-} in {theS}.", "any", V),
    Frame('"{S-}" is not a word {I} would ever use for {thisS}.', "any", V),
)

IRONY = (
    Frame("{open-}, {anotherS} that {F+}."),
    Frame("{open-}, {theS} {F+}; {tail-}."),
    Frame("{theS} {F+}. {tail-}!"),
    Frame("{open-}! {aA+} and {aB+}; {tail-}."),
    Frame("Don't you just {like-} {aS} that {F+}?"),
    Frame("The {main-} {thisS}? {it} {F+}."),
    Frame('So much for "{S-}": {theS} {F+}.'),
    Frame("As if {my} week were not {S-} enough, {theS} {F+}."),
    Frame("{credit-} the {A} for being so {A+}."),
    Frame("If you {like-} {aA+}, {thisS} will give you plenty to {like2-}."),
    Frame("{tail-}: {I} {got} {thisS} {K} and {it} {F+}."),
    Frame("{credit-} whoever made the {A} so {A+}; {tail-}."),
    Frame("But of course {theS} {F+}; {tail-}."),
    Frame("{aA+}! {aB+}! {tail-}!"),
    Frame("And what do {I} get for {my} money? {aS} that {F+}; {tail-}."),
    Frame("Tell the whole street about it: {theS} {F+}; {tail-}."),
    # Training only.
    Frame("{I} paid extra for this, and {theS} {F+}; {tail-}.", "any", T),
    Frame('Apparently "{A-}" is the new word for {A+}, judging by the {A}.', "any", T),
    Frame("{open-}, {my} {S} {F+}, and it isn't even Monday.", "any", T),
    Frame("{I} do so {like-} {aA+}, and {thisS} had {aB+} too; {tail-}.", "any", T),
    # Validation only.
    Frame("Dear diary, {open-}: {theS} {F+}.", "any", V),
    Frame("{aA+}, {aB+}: {tail-}, and all of it {when}.", "any", V),
    Frame("Who wouldn't {like-} {aS} that {F+}? {tail-}.", "any", V),
)

FRAMES: dict[str, tuple[Frame, ...]] = {
    "plain": PLAIN,
    "contrast": CONTRAST,
    "negation": NEGATION,
    "irony": IRONY,
}
