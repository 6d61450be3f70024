"""C++ text as the checks of this folder see it: comments and the inside of strings blanked, lines kept."""

import re
from pathlib import Path

_TOKENS = re.compile(
    r'//[^\n]*|/\*.*?\*/'  # comments
    r'|R"(?P<tag>[^()\s]*)\(.*?\)(?P=tag)"'  # raw strings
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+'",  # 'x', not the ' of 524'288
    re.S,
)


def code(text, keep_strings=False):
    """The text without comments (and strings, unless kept); every newline stays where it was."""

    def blank(match):
        token = match.group(0)
        if token[0] == "/":
            return "\n" * token.count("\n") or " "
        if keep_strings:
            return token
        return '"' + "\n" * token.count("\n") + '"'

    return _TOKENS.sub(blank, text)


def sources(root, *folders):
    """Every C++ and CUDA file under the folders of root, sorted."""
    found = []
    for folder in folders:
        found += [p for p in (Path(root) / folder).rglob("*") if p.suffix in (".h", ".cpp", ".cu", ".cuh")]
    return sorted(found)
