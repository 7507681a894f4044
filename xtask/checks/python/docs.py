"""Runs the code of docs/python.md from top to bottom, in the root of the clone."""

import re
from pathlib import Path

page = Path(__file__).resolve().parents[3] / "docs" / "python.md"
text = page.read_text(encoding="utf-8")
blocks = [(text[: match.start(1)].count("\n"), match[1]) for match in re.finditer(r"```python\n(.*?)```", text, re.S)]
assert len(blocks) > 5, "the page has lost its code"
session = {}
for line, block in blocks:
    # The line numbers of an error are those of the page.
    exec(compile("\n" * line + block, str(page), "exec"), session)
print(f"docs/python.md: {len(blocks)} blocks ran")
