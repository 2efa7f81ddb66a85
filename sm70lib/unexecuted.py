"""A notebook without what running it leaves: the filter through which git reads notebooks/.

`make lab` sets it up, so that a notebook that was run in JupyterLab is no change to be committed.
It reads a notebook from stdin and writes it to stdout. It runs as a file of its own, without the
library, as git calls it often.
"""

import json
import sys

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def unexecuted(text: str) -> str:
    """The notebook without outputs, counts and times, as canonical JSON.

    Args:
        text: a notebook's file.
    """
    book = json.loads(text)
    book["metadata"] = METADATA
    for cell in book["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(unexecuted(sys.stdin.read()))
