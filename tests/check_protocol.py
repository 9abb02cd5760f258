#!/usr/bin/env python3
"""The tables of docs/protocol.md against proto/messages.def and proto/outcome.def.

check_protocol.py          fails when a table is not what the .def files say
check_protocol.py --write  writes the tables
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOC = ROOT / "docs" / "protocol.md"

MESSAGE = re.compile(r'MESSAGE\((\w+), (0x\w+), (\w+), "(.*)"\)$')
FIELD = re.compile(r'FIELD\((\w+), (\w+), (\w+), (MUST|MAY), (\d+), "(.*)"\)$')
OUTCOME = re.compile(r'OUTCOME\((\w+),\s+"(.*?)",\s+(\w+),\s+(\d),\s+"(.*)"\)$')


def rows(path, patterns, skip):
    """The rows of a .def file; a line that looks like one and is not readable ends the check."""
    for line in (ROOT / path).read_text().splitlines():
        line = line.strip()
        if not line or line.startswith("//") or line.startswith(skip):
            continue
        found = [m for m in (p.match(line) for p in patterns) if m]
        if not found:
            sys.exit(f"{path}: cannot read the row: {line}")
        yield found[0]


def range_of(kind, most):
    most = int(most)
    if kind == "STR":
        return f"UTF-8, 0 to {most} bytes"
    if kind == "BIN":
        return f"0 to {most} bytes"
    if kind == "BOOL":
        return "false, true"
    return f"0 to {most}" if most else "0 to 2^64-1"


def message_tables():
    out = []
    for m in rows("proto/messages.def", [MESSAGE, FIELD], "END_MESSAGE"):
        if m.re is MESSAGE:
            out += ["", f"#### {m[1]} `{m[2]}`", "", m[4][0].upper() + m[4][1:] + ("" if m[4].endswith(".") else ".")]
            header = False
            continue
        if not header:
            out += ["", "| field | type | there | range | what it is |", "| --- | --- | --- | --- | --- |"]
            header = True
        types = {"STR": "str", "BIN": "bin", "U64": "uint", "BOOL": "bool"}
        there = {"MUST": "must", "MAY": "may"}[m[4]]
        text = m[6].replace("|", "\\|")
        out.append(f"| `{m[3]}` | {types[m[2]]} | {there} | {range_of(m[2], m[5])} | {text} |")
    return "\n".join(out[1:])


def kind_grammar():
    lines = []
    for m in rows("proto/messages.def", [MESSAGE, FIELD], "END_MESSAGE"):
        if m.re is MESSAGE:
            lines.append((m[1], m[2][2:].upper()))
    first = lines[0]
    out = [f'kind      = %x{first[1]}          ; {first[0]}']
    out += [f'          / %x{number}          ; {name}' for name, number in lines[1:]]
    return "```abnf\n" + "\n".join(out) + "\n```"


def outcome_table():
    out = ["| code | what it means |", "| --- | --- |"]
    for m in rows("proto/outcome.def", [OUTCOME], "#"):
        out.append(f"| `{m[2]}` | {m[5]} |")
    return "\n".join(out)


def main():
    text = DOC.read_text()
    for name, make in (("messages", message_tables), ("kinds", kind_grammar), ("outcomes", outcome_table)):
        begin, end = f"<!-- {name}: made by tests/check_protocol.py --write -->\n", f"\n<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            sys.exit(f"docs/protocol.md: want one '{begin.strip()}' and one '{end.strip()}'")
        head, rest = text.split(begin)
        text = head + begin + make() + end + rest.split(end, 1)[1]
    if "--write" in sys.argv[1:]:
        DOC.write_text(text)
    elif text != DOC.read_text():
        sys.exit("docs/protocol.md is not what the .def files say: run tests/check_protocol.py --write")


main()
