"""The vocabulary of made-up prompts: 512 common English words.

Common words are one token each in the vocabularies of current models, so that text made of them has about as many tokens as
words. Exactly 512, a power of two: block ids are written as numbers in this base (`replay/text.py`).
"""

__all__ = ["WORDS"]

_TEXT = """
the of and to in is that for it as with be on by this are at from or an not you your if can will use
have has was were which when what all any one two may must should more than only then else each other
into out up down over under about after before again also always among another back because been being
best better between both but call came case change close come common could day did different do does
done during early end enough even ever every example fact far few find first follow form found four full
gave general get give given go good great group had half hand hard head help her here high him his home
hour house how however idea important include increase its just keep kind know large last late lead
learn least leave left less let level life light like likely line list little live local long look lot
low made main make man many matter me mean might mind minute miss money month most move much my name
near need never new next night no nothing now number off often old once open order our own page paper
part past pay people per person place plan play point possible power present problem provide public put
question quite rather reach read real reason recent record remain report require rest result return
right road room rule run said same saw say school second see seem sense sent series serve service set
several she short show side simple since single six size small so social some soon sort sound south
space speak special stand start state stay step still stop story strong study such support sure system
table take talk tell ten term test their them there these they thing think third those though thought
three through time today together told too took top total toward town true try turn type understand
until us usually value very view wait walk want war watch water way we week well went west white who
whole why wide within without woman word work world would write wrong year yes yet young able above
across action add against age ago air almost alone along already although American amount answer appear
area around art ask away bad base bed begin behind believe big black blue board body book box boy bring
brother build building business buy car care carry center central certain chance check child church city
class clear clearly cold college color community company complete computer consider continue control
cost country course court cover create cut dark data deal death decide deep develop door draw drive drop
easy eat education effect effort either energy enter entire event evidence experience explain eye face
fall family father feel field figure fill final fine fire five floor food foot force forward free friend
front future game girl glass goal government ground grow growth happen happy hear heart heavy hope hot
human image inside instead interest issue item job join labor language law lay leg legal lie machine
major manage market
"""

WORDS: tuple[str, ...] = tuple(_TEXT.split())
