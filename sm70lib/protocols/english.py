"""Whether a reply is in English, which the rules that read replies are for.

In another language a rule sees the option and not what is said of it: "Option A ist falsch" looks
like a mention of A. So a reply counts as English unless something speaks against it, and then only
what is beyond doubt is read.
"""

import re

from sm70lib.protocols.naming import pattern

WORD = re.compile(r"[^\W\d_]+")
LETTER = re.compile(r"[A-Za-z\u00b5\u0370-\u03ff]")  # alone: an option, or as in TNF-\u03b1
OUTSIDE = 0.1  # share of letters that are not ASCII; French has 0.04, and then words tell
MANY = 20  # different words, of which one at least is COMMON in English
COMMON = frozenset(
    "all also an and any are as at be because been both but by can cannot could did do does for "
    "from had has have he her his how if in into is it its may more most not of on only or our she "
    "should since so such than that the their then there these they this those to was we were what "
    "when where which who will with would yes you your".split()
)
# Common words of other languages that English does not have, nor names in medicine such as El Tor.
OTHER = frozenset(
    "auch das eine einer falsch ist kein keine nicht oder ohne richtig sind und wird "  # German
    "avec ce cette dans donc est fausse mais ou pas que sans sauf sont une \u00e0 "  # French
    "correcta es esta est\u00e1 excepto incorrecta pero porque respuesta una "  # Spanish
    "correta incorreta nao resposta uma \u00e9 "  # Portuguese
    "che corretta della il questa risposta salvo \u00e8 "  # Italian
    "dit een fout geen het juist niet onjuist zonder "  # Dutch
    "det ikke inte jeg och ole este neni nem nie nije odpowiedz "  # of the north and east
    "adalah bukan jawaban tidak bir degil khong sio siyo".split()  # of Asia and Africa
)


def english(text: str, options: tuple[str, ...] = ()) -> bool:
    """Whether nothing says that a text is in another language than English.

    It is in another one if more than a tenth of its letters are not ASCII, if it has as many words
    of OTHER as of COMMON, or twenty different words and none of COMMON. A reply of a few words that
    are in neither list ("Heparin inhibits thrombin") counts as English.

    Args:
        text: the text, as `spoken` gives it.
        options: the texts of the options, which may be in any language and do not count.
    """
    for option in sorted(options, key=len, reverse=True):
        if words := pattern(option):
            text = re.sub(words, " ", text, flags=re.IGNORECASE)
    found = [word for word in WORD.findall(text) if not LETTER.fullmatch(word)]
    letters = "".join(found)
    if sum(not letter.isascii() for letter in letters) > OUTSIDE * len(letters):
        return False
    common = sum(word.lower() in COMMON for word in found)
    # Acronyms look like words of other languages: PAS stain, EST.
    other = sum(word.lower() in OTHER for word in found if not word.isupper())
    if other:
        return common > other
    return common > 0 or len(set(found)) < MANY
