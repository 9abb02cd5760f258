"""A small size of tests/bench/answers.py: reviews through the simulated APIs with 5 % of every fault. Every row is
right or an error, none is wrong, and none is missing."""
import concurrent.futures
import sys

from conftest import BIN, LONG, REVIEWS, ROOT, SAMPLE

sys.path.insert(0, str(ROOT / "tests/bench"))
import answers


def chosen():
    """Every API once, every format in turn; with --long all of them in every format."""
    cases = answers.cases()
    if LONG:
        return cases
    apis, forms, picked = {}, list(answers.FORMATS), []
    for case in cases:
        apis.setdefault(case[:2], []).append(case)
    for of_api in apis.values():
        picked.append(of_api[len(picked) % len(of_api)])
    assert {case[2] for case in picked} >= {*forms, "vectors", "tensors"}
    return picked


def test_the_tables_are_known_to_the_bench():
    """A new API or fault has its place there."""
    assert {kind for _, kind, _ in answers.apis()} <= {*answers.USUAL, *(kind for _, kind in answers.PATHS)}
    assert sorted([*answers.LOTS["answers"], *answers.LOTS["calls"], *answers.STOPS]) == sorted(answers.FAULTS)


def test_every_row_is_right_or_an_error(box):
    texts = answers.read_texts(REVIEWS if REVIEWS.exists() else SAMPLE)
    cases, rows = chosen(), 400 if LONG else 80
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        made = [pool.submit(answers.run_case, BIN, box.path / f"case-{i}", box.env, case, texts, rows, seed=i)
                for i, case in enumerate(cases)]
        found = [future.result() for future in made]
    answers.print_table([answers.table_row(case, figures) for case, figures in zip(cases, found)], False)
    bad = [(case[:3], dict(figures)) for case, figures in zip(cases, found)
           if figures["wrong"] or figures["missing"] or figures["right"] + figures["errors"] != rows]
    assert bad == []
    total = sum(found, answers.Figures())
    assert total["faults"] > 0 and total["repaired"] > 0 and total["asked_again"] > 0
    assert total["right"] >= total["rows"] * 0.8  # what is an error was refused, not given up on
    # Refusals, and values that did not fit a second time either.
    codes = {name[5:] for name in total if name.startswith("code ")}
    assert codes <= {"filtered", "fatal-request", "bad-value"} and total["code bad-value"] < total["rows"] * 0.02, total
