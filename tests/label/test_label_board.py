import time
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mlstack.label.board import LEASE_S, Board, Plan
from mlstack.label.items import keys
from mlstack.records.labels import LabelEvent

PATHS = [f"{number:03d}.png" for number in range(40)]


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def event(seq: int, path: str, action: str = "label", **more: object) -> LabelEvent:
    given = {"annotator": "ann", "label": "cat" if action == "label" else None} | more
    return LabelEvent(seq=seq, at=0.0, path=path, action=action, **given)


def board(known: int = 0, overlap: float = 0.0, clock: FakeClock | None = None) -> Board:
    plan = Plan(PATHS, dict.fromkeys(PATHS[:known], "cat"), 17, overlap)
    return Board(plan, [], clock or FakeClock())


def test_the_order_is_random_and_always_the_same() -> None:
    dealt = board().deal("ann", 40)

    assert dealt != PATHS
    assert sorted(dealt) == PATHS
    assert dealt == board().deal("bob", 40)


def test_two_annotators_never_hold_one_item() -> None:
    table = board()

    hands = [table.deal("ann", 10), table.deal("bob", 10), table.deal("ann", 10)]

    assert hands[0] == hands[2]
    assert not set(hands[0]) & set(hands[1])


def test_a_lease_that_ran_out_is_dealt_again() -> None:
    clock = FakeClock()
    table = board(clock=clock)
    held = table.deal("ann", 10)

    clock.now += LEASE_S + 1

    assert table.deal("bob", 10) == held


def test_labeled_items_are_not_dealt() -> None:
    table = board(known=30)

    dealt = table.deal("ann", 40)
    table.apply(event(1, dealt[0]))

    assert len(dealt) == 10
    assert table.deal("ann", 40) == dealt[1:]
    assert table.progress("ann").labeled == 31
    assert table.progress("ann").remaining == 9
    assert table.progress("bob").remaining == 9


def test_an_answer_taken_back_comes_first() -> None:
    table = board()
    first = table.deal("ann", 3)[0]
    table.apply(event(1, first))

    table.apply(event(2, first, "undo", undoes=1))

    assert table.deal("ann", 3)[0] == first
    assert table.progress("ann").labeled == 0
    assert first not in table.deal("bob", 40)


def test_a_skipped_item_goes_to_others_and_comes_back_on_request() -> None:
    table = board()
    first = table.deal("ann", 1)[0]

    table.apply(event(1, first, "skip"))

    assert first not in table.deal("ann", 40)
    assert table.progress("ann").skipped == 1
    assert table.deal("ann", 5, again=True) == [first]
    assert table.progress("bob").remaining == 40


WISHES = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "cy"]),
        st.sampled_from(PATHS[:6]),
        st.sampled_from(["label", "skip", "undo"]),
        st.sampled_from(["cat", "dog"]),
    ),
    max_size=30,
)


@given(wishes=WISHES, overlap=st.sampled_from([0.0, 0.5, 1.0]))
def test_counts_kept_from_answer_to_answer_are_those_of_a_fresh_start(wishes, overlap) -> None:
    table, events = board(known=2, overlap=overlap), []
    people = ("ann", "bob", "cy")
    for who in people:
        table.deal(who, 3)
    for who, path, action, label in wishes:
        undone = {one.undoes for one in events}
        mine = [e for e in events if e.annotator == who and e.action != "undo"]
        standing = [e for e in mine if e.seq not in undone]
        if action == "undo" and not standing:
            continue
        last = standing[-1] if action == "undo" else None
        more = {"undoes": last.seq} if last else {}
        more |= {"label": label} if action == "label" else {}
        path = last.path if last else path
        events.append(event(len(events) + 1, path, action, annotator=who, **more))
        table.apply(events[-1])

    fresh = Board(Plan(PATHS, dict.fromkeys(PATHS[:2], "cat"), 17, overlap), events, FakeClock())

    for who in people:
        kept, counted = table.progress(who), fresh.progress(who)
        assert (kept.labeled, kept.remaining, kept.mine) == (
            counted.labeled,
            counted.remaining,
            counted.mine,
        )
        assert kept.skipped == counted.skipped
        assert +Counter(kept.classes) == +Counter(counted.classes)


def test_an_answer_costs_no_more_where_many_were_skipped() -> None:
    def cost(skipped: int) -> float:
        paths = [f"{number}.png" for number in range(20_000)]
        events = [event(n + 1, path, "skip") for n, path in enumerate(paths[:skipped])]
        table = Board(Plan(paths, {}, 17, 0.0), events)
        dealt = table.deal("ann", 50)
        begun = time.process_time()
        for number, path in enumerate(dealt, start=20_001):
            table.apply(event(number, path))
            table.progress("ann")
        return time.process_time() - begun

    assert cost(15_000) < 5 * cost(100) + 0.01


def test_overlap_asks_two_people_and_nobody_twice() -> None:
    table = board(overlap=1.0)
    first = table.deal("ann", 1)[0]
    table.apply(event(1, first))

    assert first not in table.deal("ann", 40)
    assert first in table.deal("bob", 40)

    table.apply(event(2, first, annotator="bob"))

    assert first not in table.deal("carl", 40)
    assert table.progress("carl").remaining == 39


def test_overlap_is_a_share_of_the_items() -> None:
    table = board(overlap=0.5)
    for number, path in enumerate(table.deal("ann", 40)):
        table.apply(event(number + 1, path))

    assert 8 <= table.progress("bob").remaining <= 32


def test_an_undone_label_that_was_exported_counts_no_more() -> None:
    table = board(known=1)
    table.apply(event(1, PATHS[0]))
    table.apply(event(2, PATHS[0], "undo", undoes=1))

    assert table.progress("ann").labeled == 0


def test_a_digit_is_its_own_key() -> None:
    assert keys(list("0123456789")) == [[digit] for digit in "0123456789"]


def test_other_classes_get_digits_and_first_letters() -> None:
    assert keys(["cat", "dog", "deer", "urchin"]) == [["1", "c"], ["2"], ["3"], ["4"]]
    assert keys([f"class {n}" for n in range(12)])[9:] == [["0"], ["c"], ["l"]]
