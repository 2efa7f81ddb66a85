"""Every table in LaTeX compiles, whatever its cells say. Skipped where pdflatex is not installed.

`apt-get install texlive-latex-extra` has what it takes.
"""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from sm70lib.presentation import latex
from sm70lib.presentation.styled import styled
from sm70lib.study.params import ROOT

TABLES = sorted((ROOT / "outputs/reference").glob("*/tables/*.tex"))
HOSTILE = (
    "\\input{/etc/passwd}",
    "\\immediate\\write18{touch shell}",
    "\\end{tabular}\\end{document}",
    "100 % of $x_i^2$ & {a} # ~",
    "Ω ≥ 3 → µ±5 °C, α-β ✓",
    "日本 العربية \u202egnp.exe 🙂",
    "\x1b[31mred\x07 \x00",
    "a" * 300,
    "GPT-4 †",
)
DOCUMENT = (
    "\\documentclass{{article}}\n{packages}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
)


def compiled(folder, texts: list[str]) -> str:
    """Compiles tables as one document; returns what LaTeX logged, and fails if it stopped."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex: the tables in LaTeX were not compiled")
    wanted = re.findall(r"^% needs (\\usepackage.*)$", texts[0], re.MULTILINE)
    body = "\n\\clearpage\n".join(texts)
    (folder / "t.tex").write_text(DOCUMENT.format(packages="\n".join(wanted), body=body))
    command = "pdflatex -interaction=nonstopmode -halt-on-error -no-shell-escape t.tex".split()
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True}
    done = subprocess.run(command, cwd=folder, timeout=300, **quiet)
    log = (folder / "t.log").read_text(errors="replace")
    assert done.returncode == 0, [line for line in log.splitlines() if line.startswith("!")][:3]
    return log


def test_the_committed_tables_compile_and_are_no_wider_than_the_text(tmp_path):
    assert len(TABLES) >= 17
    short = [path for path in TABLES if "\\begin{longtable}" not in path.read_text()]
    log = compiled(tmp_path, [path.read_text() for path in short])
    assert "Overfull \\hbox" not in log and "Missing character" not in log
    for path in TABLES:
        if path not in short:
            log = compiled(tmp_path, [path.read_text()])
            assert "too wide) in alignment" not in log, path.name


def test_a_long_table_with_many_columns_is_written_in_parts_that_fit(tmp_path):
    columns = {"system": [f"model {n}" for n in range(60)]}
    columns |= {
        f"benchmark_{n}": [f"{n + 0.5:.1f} n={1000 + row}" for row in range(60)] for n in range(25)
    }
    wide = styled(pd.DataFrame(columns), "Many benchmarks.")
    wide = wide._replace(right=[False, *[True] * 25])
    text = latex.latex(wide, "many")
    parts = text.count("\\begin{longtable}")
    assert parts > 2 and text.count("model 59") == parts
    assert all(text.count(f"& {n}.5 n=1059") == 1 for n in range(25))
    assert f"Part 1 of {parts}." in text and "\\label{tab:many-2}" in text
    assert "Overfull" not in compiled(tmp_path, [text])


@pytest.mark.parametrize("copies", [1, 8])
def test_hostile_names_compile_and_do_nothing(tmp_path, copies):
    """Once as a short table, and once as one that breaks between pages."""
    rows = [{"system": text, "n": place, "why": text} for place, text in enumerate(HOSTILE)]
    seen = styled(pd.DataFrame(rows * copies), f"Caption: {' '.join(HOSTILE[:7])}")
    log = compiled(tmp_path, [latex.latex(seen, "hostile")])
    assert "Missing character" not in log and "passwd" not in re.findall(r"\((/\S+)", log)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".tex", ".log", ".aux", ".pdf"}
