"""The script door of a search; the search itself is `search/session.py`.

python search/run.py                                     the synthetic set, on this machine
python search/run.py --data slices/ --time-budget 2h     a folder with one subfolder per class
python search/run.py --help                              everything else
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # as a script, search/ comes first on the path
    from search.cli import main

    sys.exit(main(["search", *sys.argv[1:]]))
