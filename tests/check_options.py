#!/usr/bin/env python3
"""docs/models.md lists every option of common/model_options.def with its default and values, and none
that does not exist. Prints each difference; the exit status is 0 when there is none."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROW = re.compile(
    r'^MODEL_OPTION\((\w+),\s*"([^"]*)",\s*(\w+),\s*"((?:[^"\\]|\\.)*)",\s*([^,]+),\s*([^,]+),\s*"((?:[^"\\]|\\.)*)"')


def value_of(kind, least, most, want):
    """What the docs say an option's value may be."""
    if kind == "CHOICE":
        return ", ".join(f"`{name}`" for name in want.split("|"))
    if kind == "FLAG":
        return "`on`, `off`"
    unit = "" if kind in ("COUNT", "MS", "NUMBER") else " bytes"
    return f"{want}, {least} to {most}{unit}"


def options_of_table(text):
    lines = [line for line in text.splitlines() if line.startswith("MODEL_OPTION(")]
    options = {}
    for line in lines:
        match = ROW.match(line)
        if match is None:
            sys.exit(f"model_options.def: a row that cannot be read: {line}")
        _, name, kind, default, least, most, want = match.groups()
        default = default.replace('\\"', '"')
        options[name] = (f"`{default}`" if default else "–",
                         value_of(kind, least.strip(), most.strip(), want))
    return options


def options_of_docs(text):
    """The rows of every table whose first column is called 'option'."""
    options, in_table = {}, False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            in_table = False
        elif cells[0] == "option":
            in_table = True
        elif in_table and not cells[0].startswith("---"):
            name = cells[0].strip("`")
            if name in options:
                sys.exit(f"docs/models.md: '{name}' stands there twice")
            options[name] = (cells[1], cells[2])
    return options


def main():
    table = options_of_table((ROOT / "common/model_options.def").read_text())
    docs = options_of_docs((ROOT / "docs/models.md").read_text())
    faults = [f"'{name}' is not in docs/models.md" for name in table if name not in docs]
    faults += [f"'{name}' is in docs/models.md and not in model_options.def"
               for name in docs if name not in table]
    for name in table.keys() & docs.keys():
        for what, is_, got in zip(("default", "value"), table[name], docs[name]):
            if is_ != got:
                faults.append(f"'{name}', {what}: docs/models.md says {got}, want {is_}")
    for fault in sorted(faults):
        print(fault)
    print(f"{len(table)} options, {len(faults)} differences")
    return 1 if faults or not table else 0


if __name__ == "__main__":
    sys.exit(main())
