"""Compose the demo data set and write ``train.jsonl`` and ``validation.jsonl`` next to this file.

The composer fills hand-written frames (``frames``) with words of one part (``lexicon_train`` or
``lexicon_validation``, with their facts) and words both share (``lexicon``).  A fixed seed makes
every run write the same bytes.  The two parts share no opinion word and no subject:
``opinion_and_subject_words`` returns those of a part and ``leaks`` the stems both would use.

It does not know English.  It agrees verbs and articles with the marks in the lexicons, never
checks whether an adjective suits a noun beyond its kind of aspect, and a label is the polarity the
frame was filled for, not a judgement of the finished sentence.
"""

import itertools
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from . import lexicon, lexicon_train, lexicon_validation
from .frames import FRAMES, Frame

FOLDER = Path(__file__).resolve().parent
SEED = 20261121
PARTS: dict[str, ModuleType] = {"train": lexicon_train, "validation": lexicon_validation}
# Sentences per label for each part and kind.
COUNTS: dict[str, dict[str, int]] = {
    "train": {"plain": 370, "contrast": 225, "negation": 205, "irony": 200},
    "validation": {"plain": 120, "contrast": 66, "negation": 60, "irony": 54},
}
WRITERS: tuple[dict[str, str], ...] = (
    {"I": "I", "me": "me", "my": "my", "I'm": "I'm", "I'd": "I'd", "I was": "I was"},
    {"I": "we", "me": "us", "my": "our", "I'm": "we're", "I'd": "we'd", "I was": "we were"},
)
_SUFFIXES = (
    "ingly",
    "edly",
    "fully",
    "ously",
    "ness",
    "ment",
    "ation",
    "ance",
    "ure",
    "ous",
    "ion",
    "ling",
    "ing",
    "ied",
    "ies",
    "ful",
    "less",
    "able",
    "ed",
    "es",
    "ly",
    "er",
    "est",
    "s",
    "y",
    "e",
    "i",
)


class Subject(NamedTuple):
    """A thing under review: its noun, its unit for plurals, its domain and its aspects."""

    noun: str
    unit: str
    domain: str
    aspects: tuple[str, ...]


class Aspect(NamedTuple):
    """A part or side of a subject, the kind its adjectives come from, and its number."""

    noun: str
    kind: str
    mark: str


class Record(NamedTuple):
    """One line of a data file."""

    sentence: str
    label: int
    kind: str


def _commas(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _side(pair: tuple[str, str], positive: bool) -> str:
    return pair[0] if positive else pair[1]


def _read_aspects() -> dict[str, Aspect]:
    aspects = {}
    for kind, text in lexicon.ASPECTS.items():
        for item in _commas(text):
            noun = item.rstrip("+~")
            aspects[noun] = Aspect(noun, kind, item[len(noun) :])
    return aspects


def _read_subjects(part: ModuleType) -> list[Subject]:
    subjects = []
    for domain, text in part.SUBJECTS.items():
        entries = _lines(text) if domain in lexicon.GOODS else _commas(text)
        shared = _commas(lexicon.DOMAIN_ASPECTS[domain])
        for entry in entries:
            name, _, own = entry.partition(":")
            unit, _, noun = name.rpartition("/")
            subjects.append(Subject(noun, unit, domain, (*_commas(own), *shared)))
    return subjects


def _with_article(phrase: str) -> str:
    takes_an = re.match(r"(?!use)[aeiou]|hon|hour", phrase)
    return f"{'an' if takes_an else 'a'} {phrase}"


def _tidy(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"(^\W*|[.!?]\"? )([a-zé])", lambda found: found[1] + found[2].upper(), text)
    return re.sub(r"\bi\b", "I", text)


class _Sentence:
    """The choices made while one frame is filled."""

    def __init__(
        self, part: ModuleType, subject: Subject, positive: bool, rng: random.Random
    ) -> None:
        self.part, self.subject, self.positive, self.rng = part, subject, positive, rng
        self.type = "goods" if subject.domain in lexicon.GOODS else "place"
        self.writer = rng.choice(WRITERS[:1] if subject.domain in lexicon.LONE else WRITERS)
        self.used: set[str] = set()
        self.named = False
        own = [_ASPECTS[name] for name in subject.aspects]
        first = rng.choice(own)
        second = rng.choice([aspect for aspect in own if aspect.kind != first.kind])
        self.aspects = {"A": first, "B": second}

    def fill(self, text: str) -> str:
        """Replace every slot of ``text``, also those inside what replaces one."""
        while "{" in text:
            text = re.sub(r"\{([^{}]+)\}", lambda found: self._slot(found[1]), text, count=1)
        return text

    def _pick(self, items: list[str]) -> str:
        fresh = [item for item in items if item not in self.used]
        chosen = self.rng.choice(fresh or items)
        self.used.add(chosen)
        return chosen

    def _slot(self, name: str) -> str:
        if name in self.writer:
            return self.writer[name]
        if name[-1] in "+-":
            return self._polar(name[:-1], self.positive == (name[-1] == "+"))
        if name[0] in self.aspects and (len(name) == 1 or name[1] == "."):
            return self._aspect(self.aspects[name[0]], name[2:])
        if name in ("K", "when", "got", "really"):
            return self._free(name)
        if name in ("it", "them") and not self.named:
            name = "thisS"
        if name in ("S", "theS", "thisS", "anotherS", "aS"):
            self.named = True
        return self._subject(name)

    def _free(self, name: str) -> str:
        if name == "really":
            return self.rng.choice(("", "", "really ", "truly "))
        if name == "when":
            return self._pick(_commas(lexicon.TIMES))
        if name == "K":
            return self._pick(_lines(lexicon.CONTEXTS[self.type]))
        key = "goods" if self.type == "goods" else self.subject.domain
        return self._pick(_commas(lexicon.GOT[key]))

    def _aspect(self, aspect: Aspect, what: str) -> str:
        plural = aspect.mark == "+"
        forms = {
            "": aspect.noun,
            "was": "were" if plural else "was",
            "is": "are" if plural else "is",
            "do": "do" if plural else "does",
        }
        return forms[what]

    def _subject(self, name: str) -> str:
        noun, unit = self.subject.noun, self.subject.unit
        full = f"{unit} of {noun}" if unit else noun
        forms = {
            "S": noun,
            "theS": f"the {noun}",
            "aS": _with_article(full),
            "thisS": f"{'these' if unit else 'this'} {noun}",
            "anotherS": f"another {full}",
            "thisone": f"this {unit or 'one'}",
            "it": "they" if unit else "it",
            "them": "them" if unit else "it",
            "itself": "themselves" if unit else "itself",
            "its": "their" if unit else "its",
            "was": "were" if unit else "was",
            "is": "are" if unit else "is",
        }
        return forms[name]

    def _adjective(self, kind: str, positive: bool) -> str:
        words = _commas(_side(self.part.ADJECTIVES[kind], positive))
        return self._pick(words)

    def _polar(self, name: str, positive: bool) -> str:
        if name in ("A", "B", "aA", "aB"):
            return self._aspect_phrase(self.aspects[name[-1]], positive, name[0] == "a")
        if name == "S":
            return self._adjective("general", positive)
        if name == "aS":
            self.named = True
            noun, unit = self.subject.noun, self.subject.unit
            full = f"{unit} of {noun}" if unit else noun
            return _with_article(f"{self._adjective('general', positive)} {full}")
        if name == "F":
            return self._pick(_lines(_side(self.part.FACTS[self.subject.domain], positive)))
        if name == "V":
            return self._pick(_lines(_side(self.part.VERDICTS[self.type], positive)))
        return self._listed(name, positive)

    def _aspect_phrase(self, aspect: Aspect, positive: bool, with_noun: bool) -> str:
        general = aspect.kind != "price" and self.rng.random() < 0.3
        adjective = self._adjective("general" if general else aspect.kind, positive)
        if not with_noun:
            return adjective
        phrase = f"{adjective} {aspect.noun}"
        return phrase if aspect.mark else _with_article(phrase)

    def _listed(self, name: str, positive: bool) -> str:
        if name == "tail":
            return self._pick(self.part.TAILS[0 if positive else 1].split("/"))
        lists = {
            "W": self.part.SUMMARIES,
            "open": self.part.OPENERS,
            "quality": self.part.QUALITIES,
            "quality2": self.part.QUALITIES,
            "point": self.part.POINTS,
            "act": self.part.ACTS,
            "main": self.part.MAIN_POINTS,
            "like": self.part.LIKING,
            "like2": self.part.LIKING,
            "credit": self.part.CREDIT,
            "turn": self.part.TURNS,
        }
        return self._pick(_commas(_side(lists[name], positive)))


_ASPECTS = _read_aspects()


def _usable(kind: str, split: str, label: int) -> list[Frame]:
    return [
        frame
        for frame in FRAMES[kind]
        if frame.split in ("both", split) and frame.label in (None, label)
    ]


def _in_scope(frame: Frame, subjects: Iterable[Subject]) -> list[Subject]:
    domains = {
        "any": lexicon.GOODS + lexicon.PLACES,
        "goods": lexicon.GOODS,
        "place": lexicon.PLACES,
    }[frame.scope]
    return [subject for subject in subjects if subject.domain in domains]


def _compose_group(
    split: str, kind: str, label: int, taken: set[str], rng: random.Random
) -> list[Record]:
    part, frames = PARTS[split], _usable(kind, split, label)
    subjects = _read_subjects(part)
    records: list[Record] = []
    for frame in itertools.cycle(frames):
        if len(records) == COUNTS[split][kind]:
            break
        subject = rng.choice(_in_scope(frame, subjects))
        sentence = _tidy(_Sentence(part, subject, label == 1, rng).fill(frame.text))
        if sentence not in taken:
            taken.add(sentence)
            records.append(Record(sentence, label, kind))
    return records


def compose(split: str) -> list[Record]:
    """Return the records of ``split`` ("train" or "validation"), shuffled, always the same."""
    rng = random.Random(f"{SEED}-{split}")
    taken: set[str] = set()
    records = [
        record
        for kind in FRAMES
        for label in (0, 1)
        for record in _compose_group(split, kind, label, taken, rng)
    ]
    rng.shuffle(records)
    return records


def words_of(text: str) -> list[str]:
    """Return the lower-cased words of ``text``; hyphens and apostrophes part words."""
    return re.findall(r"[a-zé]+", text.lower().replace("n't", " not"))


def stem(word: str) -> str:
    """Return ``word`` without its simple endings, so that inflected forms agree."""
    before = ""
    while before != word:
        before = word
        for suffix in _SUFFIXES:
            if word.endswith(suffix) and len(word) - len(suffix) >= 3:
                word = word[: -len(suffix)]
                break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def opinion_and_subject_words(split: str) -> set[str]:
    """Return every word of ``split``'s sentences that is not in the shared vocabulary.

    The shared vocabulary (``lexicon.SHARED_WORDS``) names function words, aspects and neutral
    words one by one, so whatever it leaves out counts as an opinion word or a subject.
    """
    shared = set(lexicon.SHARED_WORDS.split())
    return {word for record in compose(split) for word in words_of(record.sentence)} - shared


def leaks() -> set[str]:
    """Return the stems of opinion words and subjects that both parts use; it should be empty."""
    train, validation = (
        {stem(word) for word in opinion_and_subject_words(split)} for split in PARTS
    )
    return train & validation


def write(split: str, folder: Path = FOLDER) -> Path:
    """Write the records of ``split`` into ``folder`` as JSON lines and return the path."""
    path = folder / f"{split}.jsonl"
    lines = (json.dumps(record._asdict(), ensure_ascii=False) + "\n" for record in compose(split))
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return path


def main() -> None:
    """Write both files, unless the parts share an opinion word or a subject."""
    if shared := leaks():
        raise SystemExit(f"words in both parts: {', '.join(sorted(shared))}")
    for split in PARTS:
        write(split)


if __name__ == "__main__":
    main()
